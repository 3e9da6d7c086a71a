"""The only interface between Hydra and the program: turns a composed config into a frozen `Run`.

Values of the command line and of config files may refer to others (`${model.recipe.tokens}`,
`${oc.env:HOME}`). Files of a run directory are taken literally: nothing in them is resolved.
"""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.errors import InputError
from configs.schema import Run

KEYWORDS = (("cluster", "from"),)
"""Settings, by group, that are words of Python: their fields have an underscore at the end, which
exists in the schema alone. Files, the command line and messages have the setting without it."""


def load(composed: DictConfig) -> Run:
    """Checks a composed config against the schema and freezes it.

    Raises omegaconf's ConfigKeyError, ValidationError or MissingMandatoryValue for a key that is
    unknown, of the wrong type, or without a value.
    """
    composed = _as_fields(composed)
    run = OmegaConf.to_object(OmegaConf.merge(_schema(Run, composed), composed))
    assert isinstance(run, Run)
    return run


def save(run: Run, path: Path) -> None:
    """Writes the resolved config; `read` gives back an equal `Run`."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(_as_settings(run))), encoding="utf-8")


def read(path: Path) -> Run:
    """The run that `save` wrote. Raises InputError if the file holds no run."""
    try:
        return load(literal(path))
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None


def as_config(run: Run) -> DictConfig:
    """A run's settings, to be changed and loaded again."""
    return _literally(_as_settings(run))


def literal(path: Path) -> DictConfig:
    """A YAML file taken literally. Raises InputError if it is not YAML."""
    try:
        content = OmegaConf.load(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read: {reason}") from None
    if not isinstance(content, DictConfig):
        raise InputError(f"{path}: holds no settings")
    return _literally(OmegaConf.to_container(content, enum_to_str=True))


def _as_fields(composed: DictConfig) -> DictConfig:
    """With the underscore behind KEYWORDS."""
    renamed = composed.copy()
    OmegaConf.set_struct(renamed, False)
    for group, name in KEYWORDS:
        held = renamed.get(group)
        if isinstance(held, DictConfig) and name in held:
            raw = OmegaConf.to_container(held)  # references stay what they are
            assert isinstance(raw, dict)
            held.pop(name)
            held[f"{name}_"] = raw[name]
    return renamed


def _as_settings(run: Run) -> dict[str, Any]:
    """The values of a run by the names of its settings."""
    values: Any = OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)
    for group, name in KEYWORDS:
        values[group][name] = values[group].pop(f"{name}_")
    return cast(dict[str, Any], values)


def _literally(content: Any) -> DictConfig:
    taken = OmegaConf.create(_escaped(content))
    assert isinstance(taken, DictConfig)
    return taken


def _escaped(value: Any) -> Any:
    """Escapes interpolations in OmegaConf's syntax."""
    if isinstance(value, dict):
        return {key: _escaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value)
    return value


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
