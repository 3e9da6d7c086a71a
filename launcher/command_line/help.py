"""`phalanx --help`, `phalanx COMMAND --help` and `phalanx help SETTING`. Imports no torch."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from configs.describe import CHOSEN_ALONE, NAME, Setting, choices, find, groups, settings
from configs.errors import InputError
from launcher.command_line.arguments import Arguments, parse
from launcher.command_line.catalogue import COMMANDS
from launcher.command_line.nearest import by_likeness

WIDEST = 100
SHOWN_VERSIONS = ("torch", "megatron-core", "deepspeed")
COMPLETION = 'eval "$(phalanx -sc install=bash)"'
FLAGS = (
    ("--multirun", "one run for each of several values: train.seed=1,2"),
    ("--cfg job", "prints the composed configuration and starts nothing"),
    ("--config-dir DIR", "your own config files: DIR/model/mine.yaml is model=mine"),
    ("--config-name NAME", "starts from DIR/NAME.yaml instead of config.yaml"),
    ("--info, --hydra-help", "Hydra's own information and help"),
)


def version() -> str:
    """Our version and those that results depend on, without importing the packages."""
    others = [f"{name} {_version(name)}" for name in SHOWN_VERSIONS]
    return f"phalanx {_version('phalanx')}, {', '.join(others)}, Python {platform.python_version()}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def usage() -> str:
    """All commands, and pointers to further help."""
    rows = [
        *_title("usage: phalanx COMMAND [setting=value ...] [flags]"),
        *_rows([(name, command.does) for name, command in COMMANDS.items()], 17),
        *_title("begin with"),
        *_rows([("phalanx doctor", COMMANDS["doctor"].does)]),
        *_rows([("phalanx train --dry-run", "checks and prints a first training run")]),
        *_rows([("phalanx train", COMMANDS["train"].examples[0][1])]),
        *_title("help"),
        *_rows([("phalanx COMMAND --help", "what a command does, with examples")]),
        *_rows([("phalanx help SETTING", "one setting or group: train.save_every, layout")]),
        *_rows([("phalanx help settings", "all of them")]),
        *_rows([("phalanx --version", "with the versions of its main dependencies")]),
        *_title("completion with TAB, in bash"),
        *_rows([(COMPLETION, "best as a line of ~/.bashrc")]),
    ]
    return _page(rows)


def asked(words: Sequence[str]) -> str:
    """`phalanx help WORDS`. Raises InputError if there is no help for them."""
    if not words or words[0] in ("help", "--help", "-h"):
        return usage()
    if words[0] in COMMANDS:
        return of_command(words[0], words[1:])
    if words[0] == "settings":
        return _reference(words[1:])
    name = words[0].partition("=")[0].strip(".*")
    if find(name) is None and name not in groups():
        known = [*COMMANDS, "settings", *groups(), *settings()]
        raise InputError(
            f"help {words[0]}: there is no such command or setting; {_close(name, known)}"
        )
    return _of_setting(name, Composed(parse(words[1:])))


def _close(name: str, known: list[str]) -> str:
    return f"nearest: {', '.join(by_likeness(name, dict.fromkeys(known))[:3])}"


class Composed:
    """The values of settings under these arguments, and which config files were selected."""

    def __init__(self, arguments: Arguments) -> None:
        import hydra

        self.folders = () if arguments.folder is None else (arguments.folder.absolute(),)
        search = [f"hydra.searchpath=[{','.join(f'file://{it}' for it in self.folders)}]"]
        overrides = [it for it in arguments.for_hydra() if not it.startswith("-")]
        name = arguments.flags.get("--config-name", "config") if not self.folders else "config"
        with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
            config = hydra.compose(
                name, [*overrides, *(search if self.folders else [])], return_hydra_config=True
            )
        self._chosen = dict(config.hydra.runtime.choices)
        self._config = config

    def default(self, name: str) -> str | None:
        """The value as it would be typed; None if it cannot be typed."""
        if name in groups():
            return typed(self._chosen.get(name))
        setting = find(name)
        if NAME in name or setting is None or setting.inner:
            return None
        from omegaconf import OmegaConf

        return typed(OmegaConf.select(self._config, name, default=...))


def typed(value: Any) -> str | None:
    """A value as typed after a setting; None for `...`, and for values that are not one word."""
    if value is ...:
        return None
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str):
        return value if value and value == value.strip() else f'"{value}"'
    if isinstance(value, Iterable) and not hasattr(value, "keys"):
        items = [typed(item) or "" for item in value]
        return f"[{','.join(items)}]".replace("\n", "\\n")
    return "{}" if not value else None


def of_command(command: str, words: Sequence[str] = ()) -> str:
    """What the command does, its settings with their values under `words`, and examples."""
    about = COMMANDS[command]
    kept = [word for word in words if word not in ("--help", "-h")]
    composed = Composed(parse([it for it in kept if not it.startswith("against")], command))
    rows = [
        *_title(f"phalanx {command} [setting=value ...] [flags]"),
        *_wrapped(about.about, "  "),
        *_title("examples"),
    ]
    for line, does in about.examples:
        rows += [*_broken(f"  phalanx {line}"), f"      {does}"]
    if about.own or about.more:
        rows += [*_title(f"settings of {command}"), *_rows(list(about.more))]
        rows += _settings(_spread(about.own), composed, whole=True)
    if about.shared:
        rows += [*_title("shared settings"), *_settings(about.shared, composed, whole=False)]
    rows += [
        *_title("flags, anywhere among the settings"),
        *_rows(list(FLAGS)),
        *_title("more"),
        *_rows([(f"phalanx help {_one_of(about.own)}", "one setting or group")]),
        *_rows([(f"phalanx help settings {_group_of(command)}".rstrip(), "all of them")]),
        *_rows([("phalanx help settings", "those of all commands")] if _group_of(command) else []),
    ]
    return _page(rows)


def _group_of(command: str) -> str:
    return {"prepare": "corpus", "decontaminate": "contamination"}.get(
        command, command if find(command) else ""
    )


def _one_of(own: tuple[str, ...]) -> str:
    return next((name for name in own if "." in name and "*" not in name), "layout")


def _of_setting(name: str, composed: Composed) -> str:
    setting = find(name)
    default = composed.default(name)
    rows = _title(name if default is None else f"{name}={default}")
    rows += _wrapped(_sentence(name, setting), "  ")
    if setting is not None and setting.kind:
        rows += ["", f"  takes {setting.kind}"]
    if setting is not None and setting.values:
        rows += [
            *_title("values"),
            *_rows([(f"{name}={it}", of) for it, of in setting.values.items()]),
        ]
    if name in groups():
        files = choices(name, composed.folders)
        rows += [*_title("files"), *_rows([(f"{name}={it}", of) for it, of in files.items()])]
    if setting is not None and setting.inner:
        rows += [
            *_title("settings"),
            *_settings(_spread((f"{setting.name}.*",)), composed, whole=True),
        ]
    users = [it for it, about in COMMANDS.items() if setting and setting.name in _all_of(about)]
    if users:
        rows += _title("used by")
        rows += _wrapped(", ".join(f"phalanx {user}" for user in users), "  ")
    return _page(rows)


def _all_of(command: Any) -> list[str]:
    return [*_spread(command.own), *command.shared]


def _reference(words: Sequence[str]) -> str:
    """Every setting, or those of one group."""
    group = next((word.strip(".*") for word in words if "=" not in word), None)
    if group is not None and find(group) is None:
        known = [name for name in settings() if "." not in name]
        raise InputError(f"help settings {group}: there is no such group; {_close(group, known)}")
    composed = Composed(parse([word for word in words if "=" in word]))
    rows: list[str] = []
    for name in settings() if group is None else _spread((f"{group}.*",)):
        if "." not in name and settings()[name].inner:
            rows.append("")
        rows += _settings((name,), composed, whole=True)
    return _page(rows)


def _spread(names: Sequence[str]) -> tuple[str, ...]:
    """`plan.*` is all settings of plan."""
    found: list[str] = []
    for name in names:
        inside = [it for it in settings() if name.endswith(".*") and it.startswith(name[:-1])]
        found += inside if name.endswith(".*") else [name]
    return tuple(found)


def _settings(names: Iterable[str], composed: Composed, *, whole: bool) -> list[str]:
    """One row per setting; `whole`: values have their sentences too."""
    rows: list[str] = []
    for name in names:
        setting = find(name)
        default = composed.default(name)
        left = name if default is None else f"{name}={default}"
        values = setting.values if setting is not None else {}
        takes = setting.kind if setting is not None else ""
        if name in groups():
            takes = "|".join(choices(name, composed.folders))
        elif values and not whole:
            takes = "|".join(values)
        said = _sentence(name, setting)
        rows += _rows([(left, f"{said} [{takes}]" if takes else said)])
        if whole and name not in groups():
            rows += _rows([(f"  {value}", f"  {of}") for value, of in values.items()])
    return rows


def _sentence(name: str, setting: Setting | None) -> str:
    return CHOSEN_ALONE[name] if setting is None else setting.sentence


def _width() -> int:
    return min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST) if _tells_width() else WIDEST


def _tells_width() -> bool:
    return sys.stdout.isatty()


def _title(text: str) -> list[str]:
    return ["", text]


def _wrapped(text: str, indent: str) -> list[str]:
    # A line may break at a bar between values, but not inside a setting's type.
    whole = re.sub(r"\[[a-z ]+\]$", lambda it: it[0].replace(" ", "\xa0"), text)
    lines = textwrap.wrap(
        whole.replace("|", "| "),
        _width(),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace("| ", "|").replace("\xa0", " ") for line in lines]


def _rows(pairs: Sequence[tuple[str, str]], left: int = 0) -> list[str]:
    """Two columns; an entry too long for the left one gets its own line."""
    column = left or (34 if _width() >= 90 else 28)
    rows: list[str] = []
    for name, text in pairs:
        indent = column + 2 if text.startswith("  ") else column
        lines = _wrapped(text.strip(), " " * indent)
        begin = f"  {name}"
        if len(begin) < column - 1 and lines:
            lines[0] = begin + lines[0][len(begin) :]
            rows += lines
        else:
            rows += [*_broken(begin), *lines]
    return rows


def _broken(line: str) -> Iterator[str]:
    """Breaks a long command into lines that the shell accepts."""
    if len(line) <= _width():
        yield line
        return
    pieces = textwrap.wrap(
        line.strip(), _width() - 6, break_on_hyphens=False, break_long_words=False
    )
    for number, piece in enumerate(pieces):
        end = " \\" if number < len(pieces) - 1 and piece.startswith(("phalanx", "+", "-")) else ""
        yield ("  " if number == 0 else "    ") + piece + end


def _page(rows: Iterable[str]) -> str:
    return "\n".join(rows).strip("\n")
