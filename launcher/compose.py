"""From the command line to a `Run`: Hydra composes, `configs.load` freezes, errors get one line."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from configs.errors import InputError
from configs.load import load
from configs.schema import Run

OVERRIDES = "overrides.yaml"
ONCE = (
    *("train.stop_after", "debug", "run_dir", "format"),
    *("profile", "generate", "task", "tasks", "evaluate", "scaling", "parity", "convert", "plan"),
)
"""Settings, or groups of them, that hold for one start of a run and not for the next."""


def hydra_app(command: Callable[[Run, list[str]], None]) -> Callable[[], None]:
    """Makes `command(run, overrides)` a Hydra app: --help, --cfg, --multirun, tab completion.

    An existing run directory brings the overrides it was started with; those given now win.
    """
    composed: list[tuple[DictConfig, list[str]]] = []

    @hydra.main(version_base="1.3", config_path="pkg://configs", config_name="config")
    def compose_only(config: DictConfig) -> None:
        composed.append((config, list(HydraConfig.get().overrides.task)))

    def app() -> None:
        # Hydra only composes: were the command run inside, Hydra would tell its errors as well.
        compose_only()
        for config, given in composed:
            overrides = merge_overrides(stored_overrides(config.get("run_dir")), given)
            run = load(config) if overrides == given else compose_run(overrides)
            command(run, overrides)

    return app


def compose_run(overrides: list[str]) -> Run:
    """The run of these overrides; raises what Hydra and `configs.load` raise."""
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        return load(hydra.compose("config", overrides=overrides))


def stored_overrides(run_dir: str | None) -> list[str]:
    if run_dir is None:
        return []
    path = Path(run_dir) / OVERRIDES
    if not path.exists():
        return []
    return list(yaml.safe_load(path.read_text(encoding="utf-8")))


def store_overrides(overrides: list[str], run_dir: Path) -> None:
    """Keeps what makes the run what it is; its own checkpoint is where it once went back to."""

    def lasting(override: str) -> bool:
        key, _, value = override.partition("=")
        if key == "checkpoint" and run_dir.resolve() in Path(value).expanduser().resolve().parents:
            return False
        return key not in ONCE and key.split(".")[0] not in ONCE

    overrides = [override for override in overrides if lasting(override)]
    (run_dir / OVERRIDES).write_text(yaml.safe_dump(overrides), encoding="utf-8")


def merge_overrides(stored: Sequence[str], given: Sequence[str]) -> list[str]:
    """Stored overrides, less those given anew; a group given anew drops its stored values too."""
    anew = {_key(override) for override in given}
    kept = [
        override
        for override in stored
        if _key(override) not in anew and _key(override).split(".")[0] not in anew
    ]
    return [*kept, *given]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


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
