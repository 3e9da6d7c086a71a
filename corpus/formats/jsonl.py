"""JSONL: a document a line, in one field of an object."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus.formats.streams import Block, Broken, blocks
from corpus.records import Damage, Found, Record

LONGEST = 256 << 20  # bytes; a longer line is damage


def read_jsonl(path: Path, field: str, start: int = 0, stop: int | None = None) -> Iterator[Found]:
    """The lines that begin at byte `start` or later, and before `stop`. Blank lines are none.

    Positions are offsets in the (decompressed) file. Raises InputError if it cannot be read.
    """
    # The byte before tells whether a line begins at `start`.
    first = max(start - 1, 0)
    for line in _lines(blocks(path, first), first):
        if stop is not None and line.at >= stop:
            return
        if line.at < start:
            continue
        if line.reason is not None:
            yield Damage(path, f"byte {line.at:,}", line.reason)
        elif content := (line.data if line.at else line.data.removeprefix(BOM_UTF8)).strip():
            yield _document(path, f"byte {line.at:,}", content, field)


@dataclass(frozen=True, slots=True)
class _Line:
    at: int  # where it begins
    data: bytes
    reason: str | None = None  # why it cannot be read


def _lines(source: Iterator[Block | Broken], at: int) -> Iterator[_Line]:
    """All lines of bytes that begin at offset `at`, without their ends."""
    pending: list[bytes] = []  # of a line whose end has not been seen; joined once, at its end
    size = 0
    for block in source:
        if isinstance(block, Broken):
            yield _Line(at, b"", f"{block.reason}; the rest of the file is not read")
            return
        *whole, rest = block.data.split(b"\n")
        for data in whole:
            size += len(data)
            pending.append(data)
            yield _line(at, pending, size)
            at += size + 1
            pending, size = [], 0
        size += len(rest)
        if size <= LONGEST:
            pending.append(rest)
        else:
            pending.clear()
    if size:
        yield _line(at, pending, size)


def _line(at: int, pieces: list[bytes], size: int) -> _Line:
    if size > LONGEST:
        return _Line(at, b"", f"a line of {size:,} bytes; the longest that is read has {LONGEST:,}")
    return _Line(at, b"".join(pieces))


def _document(path: Path, position: str, line: bytes, field: str) -> Found:
    try:
        value = json.loads(line.decode())
        text = value[field] if isinstance(value, dict) else None
        if not isinstance(text, str):
            return Damage(path, position, _misfit(value, field))
        text.encode()  # JSON can spell half a surrogate pair, UTF-8 cannot
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        reason = f"not UTF-8 (byte 0x{wrong:02x} at {error.start:,} of the line)"
        return Damage(path, position, reason)
    except UnicodeEncodeError:
        return Damage(path, position, f"{field!r} has half a surrogate pair, which is no text")
    except KeyError:
        return Damage(path, position, f"no field {field!r}")
    except (ValueError, RecursionError) as error:
        return Damage(path, position, f"not JSON ({error})")
    return Record(path, position, text)


def _misfit(value: object, field: str) -> str:
    if isinstance(value, dict):
        return f"{field!r} is no string but {type(value[field]).__name__}"
    return "not a JSON object"
