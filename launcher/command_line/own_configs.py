"""Validates the user's own config files in the folder of --config-dir before Hydra reads them."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from configs.describe import groups
from configs.errors import InputError
from configs.schema import Run
from launcher.command_line.arguments import Arguments
from launcher.command_line.nearest import nearest

OURS = "config"
"""The primary config that every run starts from, which has a value for every setting."""


def require_own_configs(arguments: Arguments) -> None:
    """Raises InputError for a folder that does not exist, and for a primary config that does not
    exist or does not extend ours.
    """
    folder = arguments.folder
    if folder is not None and not folder.is_dir():
        raise InputError(f"--config-dir {folder}: there is no such folder")
    name = arguments.flags.get("--config-name", OURS).removesuffix(".yaml")
    if name == OURS or "--config-path" in arguments.flags:
        return
    if folder is None:
        raise InputError(f"--config-name {name}: in which folder? nearest: --config-dir .")
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(it.stem for it in folder.glob("*.yaml"))
        raise InputError(f"--config-name {name}: there is no {path}; {nearest(name, known)}")
    content = read_yaml(path)
    begins = [it for it in content.get("defaults") or () if isinstance(it, str)]
    alone = {field.name for field in fields(Run)} - set(groups())
    if OURS not in [it.lstrip("/") for it in begins] and not alone <= {*content, "tasks"}:
        raise InputError(
            f"--config-name {name}: {path} does not begin with ours, which has a value for every "
            f"setting; nearest: as its first line\n  defaults: [{OURS}, _self_]"
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """A file's settings. Raises InputError if it is not YAML, or holds no settings."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        raise broken_yaml(error, path) from None
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings, which are lines of key: value")
    return content or {}


def broken_yaml(error: yaml.MarkedYAMLError, path: Path | None = None) -> InputError:
    """Reports the line that cannot be parsed."""
    where = error.problem_mark or error.context_mark
    if where is None:
        return InputError(f"{path or 'a config file'}: {error.problem}")
    return InputError(f"{path or where.name}:{where.line + 1}: {error.problem}")


def file_of(group: str, name: str, arguments: Arguments) -> Path | None:
    """The user's own file of a group; None if it is one of ours."""
    if arguments.folder is None:
        return None
    path = arguments.folder / group / f"{name}.yaml"
    return path if path.is_file() else None


def unsaid(path: Path, kind: type[Any]) -> list[str]:
    """Required settings missing from a file of a group; none if it extends another file."""
    content = read_yaml(path)
    if "defaults" in content:
        return []
    return [
        field.name
        for field in fields(kind)
        if field.name not in content and field.default is MISSING
    ]
