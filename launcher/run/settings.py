"""A run's requested settings, kept in its directory, and how a later command line changes them.

settings.yaml holds every setting as composed, with `auto` and `null` unresolved; config.yaml holds
the values resolved at the last start. A later start begins from settings.yaml, so it needs neither
the config files nor the overrides of the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from configs.load import literal
from parallel.checkpoint import manifest

SETTINGS = "settings.yaml"
ONCE = (
    *("train.stop_after", "train.allow_changes", "debug", "run_dir", "format", "contamination.out"),
    *("profile", "generate", "task", "tasks", "evaluate", "scaling", "parity", "convert", "plan"),
)
"""Settings, or groups of them, that apply to one start of a run and not to the next."""
_KEPT = ("launch", "cluster")  # naming them again keeps the values set within them
_EVERYWHERE = ("experiment",)  # groups whose files set values of all others
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_NOTHING = object()


def kept_settings(run_dir: str | None) -> DictConfig | None:
    """The settings of the run in `run_dir`; None if there is none. Raises InputError if invalid."""
    folder = None if run_dir is None else Path(run_dir).expanduser()
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    requested = folder / SETTINGS
    kept = literal(requested if requested.is_file() else folder / "config.yaml")
    if not requested.is_file() and OmegaConf.select(kept, "launch.name") == "torchrun":
        kept.pop("launch")  # in an older run: resolved by its ranks, not requested
    checkpoints = folder / "checkpoints"
    # Once a run has a checkpoint, it resumes from its own newest one.
    if manifest.complete_checkpoints(checkpoints):
        kept["checkpoint"] = None
    return kept


def parse(overrides: Sequence[str]) -> list[Override]:
    """Raises Hydra's OverrideParseException."""
    return list(OverridesParser.create().parse_overrides(overrides=list(overrides)))


def key_of(override: str) -> str:
    """The setting, or group, that an override sets."""
    return override.split("=", 1)[0].lstrip("+~")


def lasts(override: str) -> bool:
    """Whether the override also applies to later starts of the run."""
    key = key_of(override)
    return key not in ONCE and key.split(".")[0] not in ONCE


def go_on(kept: DictConfig, composed: DictConfig, given: Sequence[str], name: str) -> DictConfig:
    """The settings of a run restarted with the overrides `given`."""
    base = kept.copy()
    for key in (*ONCE, *(str(key) for key in composed if key not in kept)):
        if key.split(".")[0] in composed:
            _set(base, key, _raw(composed, key))
    return with_overrides(base, composed, given, name)


def with_overrides(
    base: DictConfig, composed: DictConfig, given: Sequence[str], name: str = "config"
) -> DictConfig:
    """`base` with overrides applied, without the config files that it was composed from.

    Args:
        composed: from the overrides alone, with references unresolved.
        name: the primary config that they were composed with.
    """
    overrides = [each for each in parse(given) if not each.key_or_group.startswith("hydra.")]
    after = base.copy()
    if name != "config" or any(each.key_or_group in _EVERYWHERE for each in overrides):
        for key, value in _differences(_container(composed), _container(_default())):
            _set(after, key, value)
    for override in overrides:
        key = override.key_or_group
        of_group = "." not in key and isinstance(composed.get(key), DictConfig)
        if of_group and isinstance(override.value(), str):
            same = OmegaConf.select(base, f"{key}.name") == override.value()
            if not (key in _KEPT and same):
                _set(after, key, _raw(composed, key))
        elif "." not in key and key not in composed:
            continue  # a group whose files set values of others
        elif override.is_delete():
            _delete(after, key)
        else:
            _set(after, key, override.value(), merge=True)
    _follow(after, base, composed, {each.key_or_group for each in overrides})
    return after


def _follow(after: DictConfig, base: DictConfig, composed: DictConfig, given: set[str]) -> None:
    """Updates values that reference a changed setting, unless they were given explicitly."""
    for key, value in _leaves(_container(composed)):
        referred = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if referred is None or key in given or key in ONCE:
            continue
        mine = OmegaConf.select(base, key, default=_NOTHING)
        if mine == OmegaConf.select(base, referred[1], default=None):
            _set(after, key, value)


def _default() -> DictConfig:
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        return hydra.compose("config")


def _differences(mine: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    theirs = dict(_leaves(other))
    for key, value in _leaves(mine):
        if key not in theirs or theirs[key] != value:
            yield key, value


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _container(config: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(config)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _raw(config: DictConfig, key: str) -> Any:
    """A value with its references unresolved."""
    node: Any = _container(config)
    for name in key.split("."):
        node = node.get(name)
    return node


def _set(config: DictConfig, key: str, value: Any, *, merge: bool = False) -> None:
    OmegaConf.update(config, key, value, merge=merge, force_add=True)


def _delete(config: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if isinstance(node, DictConfig):
        node.pop(name, None)
