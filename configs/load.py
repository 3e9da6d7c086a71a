"""The one door between Hydra and the program: a composed config becomes a frozen `Run`."""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from configs.schema import Run


def load(composed: DictConfig) -> Run:
    """Checks a composed config against the schema and freezes it.

    Raises omegaconf's ConfigKeyError, ValidationError or MissingMandatoryValue on a key that is
    unknown, of the wrong type, or without a value.
    """
    run = OmegaConf.to_object(OmegaConf.merge(_schema(Run, composed), composed))
    assert isinstance(run, Run)
    return run


def save(run: Run, path: Path) -> None:
    """Writes the resolved config; `read` gives back an equal `Run`."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(run)), encoding="utf-8")


def read(path: Path) -> Run:
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return load(config)


def _schema(kind: type[Any], given: Any) -> DictConfig:
    # omegaconf 2.3 makes nodes of frozen dataclasses read-only and then refuses to merge into
    # them, so each nested node is made here and unlocked; those of a dict, whose keys the config
    # chooses, too.
    schema = OmegaConf.structured(kind)
    OmegaConf.set_readonly(schema, False)
    for name, hint in get_type_hints(kind).items():
        item = get_args(hint)[1] if get_origin(hint) is dict else None
        if not (is_dataclass(hint) or is_dataclass(item)):
            continue
        value: Any = given.get(name) if isinstance(given, DictConfig) else None
        if is_dataclass(hint):
            schema[name] = _schema(cast(type[Any], hint), value)
        else:
            schema[name] = {}
            for key in value if isinstance(value, DictConfig) else ():
                schema[name][key] = _schema(cast(type[Any], item), value[key])
    return schema
