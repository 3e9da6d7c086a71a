"""JSONL: one document per line, in one field of an object."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corpus.formats.records import Damage, Found, Record
from corpus.formats.streams import Block, Broken, blocks

LONGEST = 256 << 20  # bytes; a longer line is damage
FIELDS = 16  # reported for a line without the text
NAME = 64  # characters; a longer name is not a field's but data


def read_jsonl(path: Path, field: str, start: int = 0, stop: int | None = None) -> Iterator[Found]:
    """The lines that begin at byte `start` or later, and before `stop`, skipping blank lines.

    Positions are offsets in the (decompressed) file. Raises InputError if it cannot be read.
    """
    # The byte before `start` shows whether a line begins there.
    # The byte before tells whether a line begins at `start`.
    first = max(start - 1, 0)
    for number, line in enumerate(_lines(blocks(path, first), first), start=1):
        if stop is not None and line.at >= stop:
            return
        if line.at < start:
            continue
        position = f"byte {line.at:,}"
        found: Found | None = None
        if line.reason is not None:
            found = Damage(path, position, line.reason)
        elif content := (line.data if line.at else line.data.removeprefix(BOM_UTF8)).strip():
            found = _document(path, position, content, field)
        if isinstance(found, Damage) and first == 0:
            found = replace(found, line=number)
        if found is not None:
            yield found


@dataclass(frozen=True, slots=True)
class _Line:
    at: int  # where it begins
    data: bytes
    reason: str | None = None  # why it cannot be read


def _lines(source: Iterator[Block | Broken], at: int) -> Iterator[_Line]:
    """All lines of bytes that begin at offset `at`, without line ends."""
    pending: list[bytes] = []  # pieces of an unfinished line; joined once, at its end
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
        if not isinstance(value, dict):
            return Damage(path, position, "not a JSON object")
        text = value.get(field)
        if not isinstance(text, str):
            return Damage(path, position, _misfit(value, field), fields=_fields(value))
        text.encode()  # JSON can spell an unpaired surrogate, UTF-8 cannot
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        reason = f"not UTF-8 (byte 0x{wrong:02x} at {error.start:,} of the line)"
        return Damage(path, position, reason)
    except UnicodeEncodeError:
        return Damage(path, position, f"{field!r} has half a surrogate pair, which is no text")
    except (ValueError, RecursionError) as error:
        return Damage(path, position, f"not JSON ({error})")
    return Record(path, position, text)


def _misfit(value: dict[str, Any], field: str) -> str:
    if field not in value:
        return f"no field {field!r}"
    return f"{field!r} is no string but {type(value[field]).__name__}"


def _fields(value: dict[str, Any]) -> dict[str, int]:
    """Characters of text in each field, in order; if there are many, those with the most."""
    sizes = {
        name: len(held) if isinstance(held, str) else 0
        for name, held in value.items()
        if len(name) <= NAME and name.isprintable()
    }
    most = set(sorted(sizes, key=lambda name: -sizes[name])[:FIELDS])
    return {name: size for name, size in sizes.items() if name in most}
