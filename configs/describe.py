"""Describes each setting by the schema's comments, read from its source.

So one text serves readers of the schema, `phalanx COMMAND --help`, the reference and messages.
A sentence is the comment after a field, or, if that is long, in the lines right above it.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import types
from dataclasses import dataclass, is_dataclass
from enum import StrEnum
from functools import cache
from inspect import getsource
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from configs.schema import Run

FOLDER = Path(__file__).parent
NAME = "NAME"
"""Stands in a setting for a name that the user gives, as in corpus.sources.NAME.path."""

CHOSEN_ALONE = {
    "task": "the tasks of `phalanx evaluate`: task=arithmetic, or several as task=[NAME,NAME]",
    "experiment": "settings of several groups at once; other overrides win",
}
"""Groups whose files set settings of other names."""

_WORDS = {int: "int", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as help and messages show it."""

    name: str  # as it is typed
    sentence: str
    kind: str  # what it takes, in words; "" where `values` or a group's files say it
    values: dict[str, str]  # allowed values with a sentence each, if they are few
    inner: bool  # it holds other settings


@cache
def settings() -> dict[str, Setting]:
    """Every setting by its name, in the order of the schema."""
    return {setting.name: setting for setting in _of(Run, "")}


def find(name: str) -> Setting | None:
    """The setting of this name, with any name in place of NAME."""
    known = settings()
    if name in known:
        return known[name]
    for setting in known.values():
        pattern = re.escape(setting.name).replace(rf"\.{NAME}", r"\.[^.]+")
        if NAME in setting.name and re.fullmatch(pattern, name):
            return setting
    return None


def sentences(kind: type[Any]) -> dict[str, str]:
    """The comment on each field of a dataclass, or value of an enum; "" if there is none."""
    comments = _comments(kind.__module__)
    names = kind.__members__ if issubclass(kind, StrEnum) else get_type_hints(kind)
    return {name: comments.get((kind.__name__, name), "") for name in names}


def choices(group: str, folders: tuple[Path, ...] = ()) -> dict[str, str]:
    """The files of a group with the first sentence of each; `folders` take precedence."""
    found: dict[str, str] = {}
    for folder in (*folders, FOLDER):
        for path in (folder / group).glob("*.yaml"):
            found.setdefault(path.stem, _first_sentence(path))
    return {name: found[name] for name in sorted(found, key=_by_size)}


def groups() -> list[str]:
    """The settings selected by a file's name: model, layout, and so on."""
    return sorted(path.name for path in FOLDER.iterdir() if any(path.glob("*.yaml")))


def _of(kind: type[Any], prefix: str) -> list[Setting]:
    found: list[Setting] = []
    said = sentences(kind)
    for name, hint in get_type_hints(kind).items():
        inner, key = _inner(hint)
        values = _values(hint)
        found.append(
            Setting(
                name=prefix + name.removesuffix("_"),  # of a word of Python
                sentence=said[name],
                kind="" if values or inner else _words(hint),
                values=values,
                inner=inner is not None,
            )
        )
        if inner is not None and key:
            found.append(_named(f"{prefix}{name}.{NAME}", inner))
        if inner is not None:
            found += _of(inner, f"{prefix}{name}.{key}")
    return found


def _named(name: str, kind: type[Any]) -> Setting:
    said = (kind.__doc__ or "").splitlines()[0].rstrip(".").replace("`", "")
    sentence = said[0].lower() + said[1:]
    return Setting(name=name, sentence=sentence, kind="", values={}, inner=True)


def _inner(hint: Any) -> tuple[type[Any] | None, str]:
    """The dataclass that a field holds, and what comes between their names."""
    if is_dataclass(hint):
        return cast(type[Any], hint), ""
    item = get_args(hint)[1] if get_origin(hint) is dict else None
    return (cast(type[Any], item), f"{NAME}.") if is_dataclass(item) else (None, "")


def _values(hint: Any) -> dict[str, str]:
    for each in (hint, *get_args(hint)):
        if isinstance(each, type) and issubclass(each, StrEnum):
            return sentences(each)
    return {}


def _words(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join("null" if it is type(None) else _words(it) for it in get_args(hint))
    origin, parts = get_origin(hint), get_args(hint)
    if origin is list:
        return f"list of {_words(parts[0])}"
    if origin is dict:
        return f"{_words(parts[1])} by name"
    return _WORDS[hint]


@cache
def _comments(module: str) -> dict[tuple[str, str], str]:
    """The sentence of each class's fields, by the two names."""
    source = getsource(sys.modules[module])
    behind: dict[int, str] = {}
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines = alone if token.line.lstrip().startswith("#") else behind
            lines[token.start[0]] = token.string.lstrip("# ").rstrip()
    found = {}
    for kind in ast.walk(ast.parse(source)):
        for field in kind.body if isinstance(kind, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign | ast.Assign):
                target = field.target if isinstance(field, ast.AnnAssign) else field.targets[0]
                assert isinstance(target, ast.Name)
                assert isinstance(kind, ast.ClassDef)
                found[kind.name, target.id] = " ".join(_said(field, behind, alone))
    return found


def _said(field: ast.stmt, behind: dict[int, str], alone: dict[int, str]) -> list[str]:
    first = field.lineno
    while first - 1 in alone:
        first -= 1
    last = field.end_lineno or field.lineno
    above = [alone[line] for line in range(first, field.lineno)]
    return above + [behind[line] for line in range(field.lineno, last + 1) if line in behind]


def _first_sentence(path: Path) -> str:
    """Of the comment that a file begins with."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or (lines and lines[-1].endswith((".", ":"))):
            break
        if not line.startswith("# @"):
            lines.append(line.lstrip("# "))
    # Text after a semicolon is only useful to readers of the file.
    return re.split(r"[.;] (?=[A-Za-z])", " ".join(lines))[0].rstrip(".:")


_UNITS = {"m": 1e6, "b": 1e9}


def _by_size(name: str) -> list[tuple[int, float, str]]:
    """gpt3_1.3b is more than gpt3_760m, and scaling_128 than scaling_48."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([mb]?)|([a-zA-Z]+|[^a-zA-Z\d]+)", name)
    return [
        (1, float(number) * _UNITS.get(unit, 1), "") if number else (0, 0, text)
        for number, unit, text in parts
    ]
