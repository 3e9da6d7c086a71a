"""Units of work: what one process reads at a time. They depend only on the files.

So the output is the same for every number of workers, and finished units need not be repeated
after a kill.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.settings.text import TextFormat
from corpus.formats import PART, read, splittable
from corpus.formats.records import Damage, Record
from corpus.sources.sources import TextFile, TextSource

SMALL = 1 << 24  # bytes; smaller files share a unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A file, or its bytes `start` to `stop`."""

    path: Path
    format: TextFormat
    start: int
    stop: int | None
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Several small files, or a part of a large one: what one process reads at a time."""

    number: int  # in the corpus, from 0
    source: TextSource
    stretches: tuple[Stretch, ...]
    whole: bool  # joins the parts of long documents, as filters need entire documents

    @property
    def bytes(self) -> int:
        """The size on disk."""
        return sum(stretch.bytes for stretch in self.stretches)

    def read(self) -> Iterator[Record | Damage]:
        """Yields records and damage, in order."""
        for stretch in self.stretches:
            found = read(
                stretch.path,
                stretch.format,
                field=self.source.config.field,
                start=stretch.start,
                stop=stretch.stop,
            )
            yield from _joined(found) if self.whole else found


def units_of(sources: Sequence[tuple[TextSource, list[TextFile]]], *, whole: bool) -> list[Unit]:
    """Covers every file once, in order."""
    units: list[Unit] = []
    for source, files in sources:
        held: list[Stretch] = []
        for stretch in (stretch for file in files for stretch in _stretches(file, whole)):
            if held and sum(each.bytes for each in held) + stretch.bytes > SMALL:
                units.append(_unit(len(units), source, held, whole))
                held = []
            held.append(stretch)
        units.append(_unit(len(units), source, held, whole))
    return units


def _unit(number: int, source: TextSource, stretches: list[Stretch], whole: bool) -> Unit:
    return Unit(number=number, source=source, stretches=tuple(stretches), whole=whole)


def _stretches(file: TextFile, whole: bool) -> Iterator[Stretch]:
    one = Stretch(path=file.path, format=file.format, start=0, stop=None, bytes=file.bytes)
    together = whole and file.format is TextFormat.text
    if file.bytes <= PART or together or not splittable(file.path, file.format):
        yield one
        return
    for start in range(0, file.bytes, PART):
        stop = min(start + PART, file.bytes)
        yield replace(one, start=start, stop=stop, bytes=stop - start)


def _joined(found: Iterator[Record | Damage]) -> Iterator[Record | Damage]:
    parts: list[Record] = []
    for each in found:
        if isinstance(each, Record):
            parts.append(each)
        if parts and (isinstance(each, Damage) or each.ends):  # a damaged part ends its document
            text = parts[0].text if len(parts) == 1 else "".join(part.text for part in parts)
            yield replace(parts[0], text=text, ends=True)
            parts = []
        if isinstance(each, Damage):
            yield each
