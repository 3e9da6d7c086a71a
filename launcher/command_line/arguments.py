"""The arguments of `phalanx COMMAND`: flags anywhere among the settings, mistakes in one line.

Hydra's own parser requires flags before settings, and answers anything else with a usage text.
Imports neither Hydra nor torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.describe import find, settings
from configs.errors import InputError
from configs.override import override

DRY_RUN = ("--dry-run", "--dryrun")
CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
SHORT = {
    "-h": "--help",
    "-c": "--cfg",
    "-p": "--package",
    "-r": "--run",
    "-m": "--multirun",
    "-i": "--info",
    "-sc": "--shell-completion",
    "-cp": "--config-path",
    "-cn": "--config-name",
    "-cd": "--config-dir",
}
WITH_VALUE = (
    *("--cfg", "--package", "--config-path", "--config-name", "--config-dir"),
    "--experimental-rerun",
)
FLAGS = (
    *("--help", "--hydra-help", "--version", "--resolve", "--run", "--multirun"),
    *("--shell-completion", "--info", *WITH_VALUE, *DRY_RUN),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Flags by long name with their values ("" if a flag takes none), and the settings."""

    flags: dict[str, str]
    overrides: list[str]

    @property
    def dry_run(self) -> bool:
        """Whether --dry-run is among the flags."""
        return any(flag in self.flags for flag in DRY_RUN)

    @property
    def folder(self) -> Path | None:
        """The folder of the user's own config files."""
        given = self.flags.get("--config-dir")
        return None if given is None else Path(given)

    def for_hydra(self) -> list[str]:
        """The arguments in the order that Hydra's parser expects."""
        flags = [
            f"{flag}={value}" if value else flag
            for flag, value in self.flags.items()
            if flag not in DRY_RUN
        ]
        sweeps = "--multirun" in self.flags
        return [*flags, *(_quoted(word, sweeps) for word in self.overrides)]


def parse(words: Sequence[str], command: str = "") -> Arguments:
    """Raises InputError, with one line for each word that is neither a flag nor a setting."""
    flags: dict[str, str] = {}
    overrides: list[str] = []
    faults: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            if "=" in word or word.startswith("~"):
                overrides.append(word)
            else:
                faults.append(_no_setting(word, command))
            continue
        name, _, value = word.partition("=")
        flag = _flag(name)
        if flag is None:
            follows = bool(rest) and "=" not in rest[0] and not rest[0].startswith("-")
            faults.append(_no_flag(word, rest.pop(0) if follows else None, command))
        elif flag in WITH_VALUE and not value:
            if not rest:
                faults.append(f"{word}: needs a value behind it")
            flags[flag] = rest.pop(0) if rest else ""
        elif flag == "--info" and not value:
            flags[flag] = rest.pop(0) if rest and rest[0] in INFO else "all"
        else:
            flags[flag] = value
    for flag, takes in (("--cfg", CFG), ("--info", INFO)):
        if flags.get(flag, takes[0]) not in (*takes, ""):
            faults.append(f"{flag} {flags[flag]}: takes {'|'.join(takes)}")
    if faults:
        raise InputError("\n  ".join(faults))
    return Arguments(flags, overrides)


def command_of(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command, which only flags may precede, and all other words.

    `plan calibrate run_dir=[A,B]` is `plan plan.runs=[A,B]`: no other command takes several runs.
    """
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        if word.startswith("-") or SHORT.get(before, before) in WITH_VALUE:
            continue
        others = [*words[:number], *words[number + 1 :]]
        if word == "plan" and "calibrate" in others:
            others.remove("calibrate")
            others = [_as_runs(other) for other in others]
            if not any(other.startswith("plan.runs=") for other in others):
                others.append("plan.runs=[]")
        return word, others
    return None, list(words)


def _as_runs(word: str) -> str:
    name, _, value = word.partition("=")
    if name != "run_dir":
        return word
    return f"plan.runs={value}" if value.startswith("[") else f"plan.runs=[{value}]"


def written(word: str, value: str | None, command: str) -> str | None:
    """The setting that was probably meant, as key=value: matches the full name or its last part."""
    name = word.lstrip("-").replace("-", "_")
    if find(name) is None:
        name = next(_by_last_word(name, command), "")
    setting = find(name)
    if setting is None:
        return None
    if value is None:
        value = "true" if setting.kind == "true or false" else "VALUE"
    return f"{name}={value}"


def _by_last_word(word: str, command: str) -> Iterator[str]:
    """Settings whose last part is this word or similar, the command's own first."""
    last = {name: name.rpartition(".")[2] for name in settings()}
    for close in difflib.get_close_matches(word.rpartition(".")[2], set(last.values()), cutoff=0.7):
        same = [name for name, end in last.items() if end == close]
        yield from sorted(same, key=lambda name: _rank(name, command))


def _rank(name: str, command: str) -> tuple[bool, bool, int]:
    return not name.startswith(f"{command}."), not name.startswith("train."), name.count(".")


def _flag(name: str) -> str | None:
    name = SHORT.get(name, name)
    if name in FLAGS:
        return name
    begun = [flag for flag in FLAGS if name.startswith("--") and flag.startswith(name)]
    return begun[0] if len(begun) == 1 else None


def _no_flag(word: str, following: str | None, command: str) -> str:
    name, given, value = word.partition("=")
    typed = word if following is None else f"{word} {following}"
    close = [flag for flag in FLAGS if name.startswith("--") and flag.startswith(name)]
    close += difflib.get_close_matches(name, FLAGS, n=1, cutoff=0.8)
    if close:
        return f"{typed}: there is no such flag; nearest: {' or '.join(close)}"
    meant = written(name, value if given else following, command) if len(name) > 2 else None
    if meant is not None:
        return f"{typed}: settings are written as {meant}"
    return f"{typed}: there is no such flag; settings are written as key=value"


def _no_setting(word: str, command: str) -> str:
    path = Path(word)
    if path.suffix in (".yaml", ".yml"):
        name = path.stem
        return (
            f"{word}: a file is no setting; nearest: --config-dir {path.parent} --config-name "
            f"{name}, or --config-dir DIR experiment={name} where it is DIR/experiment/{name}.yaml"
        )
    meant = written(word, None, command)
    return f"{word!r} is not a setting; nearest: {meant or 'key=value'}"


def _quoted(word: str, sweeps: bool) -> str:
    """Quotes a value with = in it, as of a run directory, which Hydra cannot parse otherwise,
    and one with leading or trailing blanks, which Hydra would strip.
    """
    key, _, value = word.partition("=")
    if value != value.strip():
        return override(key, value)
    if "=" not in value or re.search(r"""['"{}$]|^\w+\(.*\)$""", value):
        return word
    if value.startswith("[") and value.endswith("]"):
        items = [_in_quotes(item) if "=" in item else item for item in value[1:-1].split(",")]
        return f"{key}=[{','.join(items)}]"
    return word if sweeps and "," in value else override(key, value)


def _in_quotes(item: str) -> str:
    return override("", item.strip()).removeprefix("=")
