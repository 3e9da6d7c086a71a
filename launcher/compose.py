"""From the command line to a `Run`: Hydra composes, `configs.load` freezes, errors get one line."""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from configs.errors import InputError
from configs.load import as_config, load
from configs.schema import Run
from launcher.run_settings import go_on, kept_settings, key_of, with_overrides


def hydra_app(command: Callable[[Run, list[str]], None]) -> Callable[[], None]:
    """Makes `command(run, overrides)` a Hydra app: --help, --cfg, --multirun, tab completion.

    An existing run directory brings the settings it was started with; those given now win.
    `overrides` are those given, and where the config files lie if not only in this package.
    """
    composed: list[tuple[DictConfig, list[str], str]] = []

    @hydra.main(version_base="1.3", config_path="pkg://configs", config_name="config")
    def compose_only(config: DictConfig) -> None:
        about = HydraConfig.get()
        given = [*_search_path(about), *about.overrides.task]
        composed.append((config, given, str(about.job.config_name)))

    def app() -> None:
        added = _make_addable(sys.argv)
        # Hydra only composes: were the command run inside, Hydra would tell its errors as well.
        compose_only()
        for config, words, name in composed:
            given = [added.get(word, word) for word in words]
            kept = kept_settings(config.get("run_dir"))
            command(load(config if kept is None else go_on(kept, config, given, name)), given)

    return app


def _search_path(about: HydraConf) -> list[str]:
    """Folders of --config-dir as an override, for who composes again."""
    own = [
        f"'file://{source.path}'"
        for source in about.runtime.config_sources
        if source.provider == "command-line"
    ]
    return [f"hydra.searchpath=[{','.join(own)}]"] if own else []


def _make_addable(arguments: list[str]) -> dict[str, str]:
    """What goes on may set what only the run's own settings have, and not the shipped ones.

    Such overrides become additions to Hydra; whether they are settings at all `load` sees. Returns
    what each was before.
    """
    folders = [word.partition("=")[2] for word in arguments if word.startswith("run_dir=")]
    if not any((Path(each).expanduser() / "config.yaml").is_file() for each in folders):
        return {}
    added = {}
    for at, word in enumerate(arguments[1:], start=1):
        if re.match(r"\w+(\.\w+)+=", word):
            arguments[at] = f"++{word}"
            added[arguments[at]] = word
    return added


def compose_run(overrides: list[str]) -> Run:
    """The run of these overrides; raises what Hydra and `configs.load` raise."""
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        return load(hydra.compose("config", overrides=overrides))


def composed_run(run: Run, given: list[str], overrides: list[str]) -> Run:
    """`run` under some overrides more; `given` are those it was composed of."""
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        where = [each for each in given if each.startswith("hydra.searchpath=")]
        composed = hydra.compose("config", overrides=[*where, *overrides])
    return load(with_overrides(as_config(run), composed, overrides))


def merge_overrides(stored: Sequence[str], given: Sequence[str]) -> list[str]:
    """Stored overrides, less those given anew; a group given anew drops its stored values too."""
    anew = {key_of(override) for override in given}
    kept = [
        override
        for override in stored
        if key_of(override) not in anew and key_of(override).split(".")[0] not in anew
    ]
    return [*kept, *given]


def explain(error: Exception) -> InputError | None:
    """A composition error in one line with the nearest that works; None for any other error."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = list(error.options or [])
        return InputError(
            f"{group}={name}: there is no such file; {_nearest(name, options, group + '=')}"
        )
    if not isinstance(error, OmegaConfBaseException | HydraException):
        return None
    cause = error.__cause__
    key = getattr(error, "full_key", None) or getattr(cause, "full_key", None)
    if match := re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text):
        return _unknown_key(key or match[1] or match[2])
    if match := re.search(r"Could not find '([^']+)'", text):
        return InputError(f"{match[1]}: there is no such file")
    reason = text.splitlines()[0]
    if isinstance(error, OverrideParseException):
        return InputError(f"{error.override!r} is not a setting; nearest: key=value")
    return InputError(f"{key}: {reason}" if key else reason)


def _unknown_key(key: str) -> InputError:
    return InputError(f"{key}: there is no such setting; {_nearest(key, settings(Run), '')}")


def _nearest(name: str, known: list[str], prefix: str) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"nearest: {prefix}{close[0]}"
    return f"known: {', '.join(prefix + each for each in sorted(known)[:12])}"


def settings(kind: type[Any], prefix: str = "") -> list[str]:
    """Every setting as it is typed on the command line."""
    names: list[str] = []
    for name, hint in get_type_hints(kind).items():
        names.append(prefix + name)
        if dataclasses.is_dataclass(hint):
            names += settings(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
    return names
