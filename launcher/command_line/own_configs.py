"""Config files of the user's own, in the folder of --config-dir: looked at before Hydra is."""

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
"""The file that every run begins with, which brings a value for every setting."""


def require_own_configs(arguments: Arguments) -> None:
    """Raises InputError for a folder that is not there, and for a file to begin with that is not
    there or does not begin with ours.
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
    """A file's settings. Raises InputError where it is no YAML, or no settings."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        raise broken_yaml(error, path) from None
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings, which are lines of key: value")
    return content or {}


def broken_yaml(error: yaml.MarkedYAMLError, path: Path | None = None) -> InputError:
    """The line where a file cannot be read."""
    where = error.problem_mark or error.context_mark
    if where is None:
        return InputError(f"{path or 'a config file'}: {error.problem}")
    return InputError(f"{path or where.name}:{where.line + 1}: {error.problem}")


def file_of(group: str, name: str, arguments: Arguments) -> Path | None:
    """The user's own file of a group; None where it is one of ours."""
    if arguments.folder is None:
        return None
    path = arguments.folder / group / f"{name}.yaml"
    return path if path.is_file() else None


def unsaid(path: Path, kind: type[Any]) -> list[str]:
    """Settings that a file of a group has to say and does not; none where it builds on another."""
    content = read_yaml(path)
    if "defaults" in content:
        return []
    return [
        field.name
        for field in fields(kind)
        if field.name not in content and field.default is MISSING
    ]
