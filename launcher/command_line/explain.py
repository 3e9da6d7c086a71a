"""Explains Hydra's and OmegaConf's errors in one line, with the nearest valid alternative."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_type_hints

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from configs.describe import CHOSEN_ALONE, NAME, Setting, choices, find, groups, settings
from configs.errors import InputError
from configs.override import override, shell_command
from configs.schema import Run
from launcher.command_line.arguments import Arguments, parse
from launcher.command_line.nearest import nearest
from launcher.command_line.own_configs import broken_yaml, file_of, unsaid

OF_HYDRA = ("hydra", "query", "install", "uninstall")
PLAIN = {"cluster": "dgx_a100"}
"""The file to begin one of the user's own with, where it is not the first of the group."""


def explain(error: Exception, words: Sequence[str] = ()) -> InputError | None:
    """Explains a composition error of these arguments; None for any other error."""
    if isinstance(error, yaml.MarkedYAMLError):
        return broken_yaml(error)
    if not isinstance(error, OmegaConfBaseException | HydraException):
        return None
    try:
        arguments = parse(words)
    except InputError as mistaken:
        return mistaken
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_file(error.missing_cfg_file, list(error.options or []), arguments)
    key = getattr(error, "full_key", None) or getattr(error.__cause__, "full_key", None)
    key = key.removesuffix("_") if key else key  # of a word of Python, see configs/load.py
    if match := re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text):
        return _unknown(key or match[1] or match[2], arguments)
    if match := re.search(r"Could not find '([^']+)'", text):
        return InputError(f"{match[1]}: there is no such file")
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return InputError(
            f"{match[1]}: several values are several runs; nearest: --multirun {match[1]}"
        )
    reason = text.splitlines()[0]
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    setting = find(key) if key else None
    if key and setting is not None:
        if isinstance(error, MissingMandatoryValue):
            return _unsaid(key, setting, arguments)
        if isinstance(error, ValidationError):
            return _wrong_value(key, setting, arguments, reason)
    return InputError(f"{key}: {reason}" if key else reason)


def _no_file(path: str, options: list[str], arguments: Arguments) -> InputError:
    group, _, name = path.strip("/").rpartition("/")
    folders = () if arguments.folder is None else (arguments.folder,)
    known = list(choices(group, folders)) if group in groups() else sorted(options)
    said = f"{group}={name}" if group else name
    near = nearest(name, known, f"{group}=" if group else "")
    return InputError(f"{said}: there is no such file; {near}")


def _unknown(key: str, arguments: Arguments) -> InputError:
    """All unknown settings of the command line, beside the one that Hydra met first."""
    if key in CHOSEN_ALONE:
        path = file_of(key, _chosen(key, arguments), arguments)
        return InputError(
            f"{path or key}: fills settings of other names; nearest: as its first line\n"
            "  # @package _global_"
        )
    given = [word.lstrip("+~").partition("=")[0] for word in arguments.overrides]
    wrong = [name for name in given if not is_known(name)]
    if not is_known(key) and not any(name.startswith(key) for name in wrong):
        wrong.insert(0, key)
    if not wrong:
        return InputError(_new_name(key, arguments))
    return InputError("\n  ".join(_nothing_of(name) for name in dict.fromkeys(wrong)))


def is_known(name: str) -> bool:
    """Whether a setting or group has this name, or it is a new key in a group with free keys."""
    name = name.partition("@")[0].strip("/")
    if name in groups() or name.split(".")[0] in OF_HYDRA or find(name) is not None:
        return True
    above, _, _ = name.rpartition(".")
    holder = find(above)
    return holder is not None and holder.kind.endswith(" by name")


def _nothing_of(name: str) -> str:
    known = [*settings(), *(group for group in groups() if group not in settings())]
    near = nearest(name, known)
    hint = near if near.startswith("nearest") else "`phalanx help settings` lists all"
    return f"{name}: there is no such setting; {hint}"


def _new_name(key: str, arguments: Arguments) -> str:
    """For a user-defined name in a group that has no such name yet."""
    whole = next((it for it in arguments.overrides if it.startswith(key)), f"{key}=VALUE")
    return f"{key}: a name of your own is new there, and is added with +; nearest: +{whole}"


def _unreadable(word: str) -> InputError:
    key, _, value = word.partition("=")
    if is_known(key.lstrip("+~")) and value:
        quoted = shell_command(override(key, value))
        return InputError(f"{word}: cannot be read; nearest, if it is a text: {quoted}")
    return InputError(f"{word!r} is not a setting; nearest: key=value")


def _unsaid(key: str, setting: Setting, arguments: Arguments) -> InputError:
    """A setting without a value; for a file of the user's own, all such settings."""
    group, _, name = key.partition(".")
    path = file_of(group, _chosen(group, arguments), arguments)
    if path is None:
        typed = f"+{key}=VALUE" if NAME in setting.name else f"{key}=VALUE"
        return InputError(f"{key}: has no value: {_meaning(setting)}; nearest: {typed}")
    missing = unsaid(path, get_type_hints(Run)[group]) or [name]
    lines = []
    for each in missing:
        about = find(f"{group}.{each}")
        assert about is not None
        value = "null" if about.kind.endswith("or null") else "VALUE"
        lines.append(f"\n  {each}: {value}  # {about.sentence}")
    base = choices(group)
    like = PLAIN.get(group) or next((it for it in base if it not in ("base", "local")), "base")
    return InputError(
        f"{path}: does not say {', '.join(missing)}; add{''.join(lines)}\n"
        f"or begin the file with one of ours, and say what differs: defaults: [{like}, _self_]"
    )


def _chosen(group: str, arguments: Arguments) -> str:
    """The file of a group selected by the arguments; "" if none is."""
    given = [it.lstrip("+") for it in arguments.overrides]
    return next((it.partition("=")[2] for it in given if it.startswith(f"{group}=")), "")


def _wrong_value(key: str, setting: Setting, arguments: Arguments, reason: str) -> InputError:
    given = next((it for it in arguments.overrides if it.lstrip("+").startswith(f"{key}=")), None)
    if given is None:
        return InputError(f"{key}: {reason}; {_meaning(setting)}")
    given, value = given.lstrip("+"), given.partition("=")[2]
    if setting.values:
        near = nearest(value, list(setting.values), f"{key}=")
        hint = f"; {near}" if near.startswith("nearest") else ""
        return InputError(f"{given}: takes {'|'.join(setting.values)}{hint}")
    said = f"{given}: takes {setting.kind or 'settings'} ({setting.sentence})"
    if setting.kind.startswith("list of ") and value and not set(value) & set("[]{}"):
        said += f"; nearest: {key}=[{value}]"
    return InputError(said)


def _meaning(setting: Setting) -> str:
    takes = setting.kind or "|".join(setting.values)
    return f"{setting.sentence} [{takes}]" if takes else setting.sentence
