"""What reading a source yields: records of text, and damage where there is none to be had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Record:
    """The text of one document, or one part of a document too long to be held in memory."""

    file: Path
    position: str  # within the file, for people: "line 17", "byte 1,234"
    text: str
    ends: bool = True  # False: the document goes on in the next record


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a file that could not be read and was skipped."""

    file: Path
    position: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, {self.position}: {self.reason}"


Found: TypeAlias = Record | Damage


def texts(found: Iterable[Found]) -> Iterator[str]:
    """The text of the records."""
    return (each.text for each in found if isinstance(each, Record))
