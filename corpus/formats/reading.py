"""Reading a file in whatever format it has."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from configs.text import TextFormat
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
    """The format `chosen`, or by the file's name; None if that tells nothing.

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
    """What tells the format: ".md" of a.MD and of a.md.gz."""
    return (path.with_suffix("") if compressed(path) else path).suffix.lower()


def splittable(path: Path, format: TextFormat) -> bool:
    """Whether ranges of bytes of the file can be read each for itself."""
    return format is not TextFormat.warc and not compressed(path)


def read(
    path: Path, format: TextFormat, *, field: str, start: int = 0, stop: int | None = None
) -> Iterator[Found]:
    """The records of a file in its order; what is damaged is told and skipped.

    Ranges from `start` up to `stop`, in bytes, that cover a splittable file give each of its
    records once. Those of text are cut at multiples of `text.PART`. `field` is of a JSONL line.

    Raises InputError, naming the file, if it cannot be read.
    """
    assert splittable(path, format) or (start == 0 and stop is None)
    if format is TextFormat.jsonl:
        return read_jsonl(path, field, start, stop)
    if format is TextFormat.warc:
        return read_warc(path)
    return read_text(path, start, stop)
