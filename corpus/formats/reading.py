"""Reads a file in any of the formats."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from configs.settings.text import TextFormat
from corpus.formats.jsonl import read_jsonl
from corpus.formats.records import Found
from corpus.formats.streams import compressed
from corpus.formats.text import read_text
from corpus.formats.warc import read_warc

_BY_SUFFIX = {
    ".jsonl": TextFormat.jsonl,
    ".ndjson": TextFormat.jsonl,
    ".json": TextFormat.jsonl,
    ".warc": TextFormat.warc,
    ".wet": TextFormat.warc,
}


def format_of(path: Path, chosen: TextFormat, extensions: Collection[str]) -> TextFormat | None:
    """The format `chosen`, or by the file's name; None if it is unknown.

    `extensions` are those of plain text.
    """
    if chosen is not TextFormat.auto:
        return chosen
    suffix = ending_of(path)
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    is_text = suffix in {extension.lower() for extension in extensions}
    return TextFormat.text if is_text else None


def ending_of(path: Path) -> str:
    """The extension that determines the format: ".md" for a.MD and for a.md.gz."""
    return (path.with_suffix("") if compressed(path) else path).suffix.lower()


def splittable(path: Path, format: TextFormat) -> bool:
    """Whether byte ranges of the file can be read independently."""
    return format is not TextFormat.warc and not compressed(path)


def read(
    path: Path, format: TextFormat, *, field: str, start: int = 0, stop: int | None = None
) -> Iterator[Found]:
    """The records of a file in order; damage is reported and skipped.

    Ranges from `start` up to `stop`, in bytes, that cover a splittable file yield each of its
    records once. Those of text are cut at multiples of `text.PART`. `field` is that of a JSONL
    line.

    Raises InputError, naming the file, if it cannot be read.
    """
    assert splittable(path, format) or (start == 0 and stop is None)
    if format is TextFormat.jsonl:
        return read_jsonl(path, field, start, stop)
    if format is TextFormat.warc:
        return read_warc(path)
    return read_text(path, start, stop)
