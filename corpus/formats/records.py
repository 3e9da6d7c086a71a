"""What reading a source yields: records of text, and damage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from configs.override import override
from configs.words import listed


@dataclass(frozen=True, slots=True)
class Record:
    """The text of one document, or one part of a document too long to be held in memory."""

    file: Path
    position: str  # within the file, for display: "line 17", "byte 1,234"
    text: str
    ends: bool = True  # False: the document continues in the next record
    begins: bool = True  # False: it is a later part of the document


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a file that could not be read and was skipped."""

    file: Path
    position: str
    reason: str
    # Unknown for later parts of a file that is read in parts.
    line: int | None = field(default=None, compare=False)
    fields: Mapping[str, int] | None = None
    """Of a JSON object without the text: characters of text in each of its fields."""

    @property
    def identity(self) -> str:
        """The input of fingerprints, which must stay the same in every version."""
        return f"{self.file}, {self.position}: {self.reason}"

    @property
    def said(self) -> str:
        """One line for display: file, place, reason, and the fields of a JSON line."""
        place = self.position if self.line is None else f"line {self.line:,}, {self.position}"
        has = "" if self.fields is None else f"; the line has {fields_said(self.fields)}"
        return f"{self.file}, {place}: {self.reason}{has}"

    def as_line(self, setting: str) -> str:
        """For display, with a setting that would read it; `setting` is the one for the field."""
        nearest = fields_nearest(self.fields or {}, setting)
        return self.said + (f"; nearest: {nearest}" if nearest else "")

    def as_json(self) -> list[Any]:
        """A row in JSON's types; `from_json` reads it."""
        return [str(self.file), self.position, self.reason, self.line, self.fields]

    @classmethod
    def from_json(cls, row: list[Any]) -> Damage:
        """Rebuilds what `as_json` returned."""
        return cls(Path(row[0]), *row[1:])


def fields_said(fields: Mapping[str, int]) -> str:
    """The names of the fields that hold text, or a note that none does."""
    if not fields:
        return "no field"
    text = [name for name, characters in fields.items() if characters]
    return listed(text) if text else f"{listed(fields)}, where no text is"


def fields_nearest(fields: Mapping[str, int], setting: str) -> str | None:
    """The override that reads the field with the most text; None if there is no text."""
    name = max(fields, key=lambda each: fields[each], default="")
    return override(setting, name) if fields.get(name) else None


Found: TypeAlias = Record | Damage


def texts(found: Iterable[Found]) -> Iterator[str]:
    """The text of the records."""
    return (each.text for each in found if isinstance(each, Record))
