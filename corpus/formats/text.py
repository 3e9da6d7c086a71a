"""Plain text: a file is one document, read in parts if it is long."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from corpus.formats.records import Damage, Found, Record
from corpus.formats.streams import Broken, blocks

PART = 64 << 20  # bytes of a part, up to the next good place to cut
WINDOW = 1 << 20  # bytes after a multiple of PART in which that place is searched

_CHARACTER = 4  # bytes of the longest
_SPACE = re.compile(rb"(?<![ \n\r\t])[ \n]")


def read_text(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Found]:
    """The parts that belong to the multiples of PART from `start` on and before `stop`.

    The part of a multiple begins at the first good place to cut there. `start` is a multiple
    itself. A Damage ends the current document: a part that is not UTF-8 is skipped, and what
    follows it is another document.

    Positions are offsets in the (decompressed) file. Raises InputError if it cannot be read.
    """
    assert start % PART == 0, "a range of text starts at a multiple of PART"
    begin = max(start - _CHARACTER, 0)  # where `held` begins
    held = bytearray()
    boundary = start or PART  # the multiple at which `held` is cut next
    for block in chain(blocks(path, begin), [None]):
        if isinstance(block, Broken):
            reason = f"{block.reason}; the rest of the file is not read"
            yield Damage(path, f"byte {begin:,}", reason)
            return
        held += block.data if block else b""
        ahead = _window() if block else 0
        while begin + len(held) > boundary + ahead:
            at = _cut(held, boundary - begin)
            if boundary > start:
                yield _part(path, begin, bytes(held[:at]), ends=False)
            if stop is not None and boundary >= stop:
                return
            del held[:at]
            begin, boundary = begin + at, boundary + PART
    if boundary > start:
        yield _part(path, begin, bytes(held), ends=True)


def _window() -> int:
    return min(WINDOW, PART // 2)  # so that a part is never empty


def _cut(held: bytearray, near: int) -> int:
    """The first good place to cut at or after `near`.

    That is before white space that follows another character: byte-level BPE never merges across
    such a place. Without one it is `near` itself, or the start of the character there.
    """
    for space in _SPACE.finditer(held, near, near + _window()):
        at = space.start()
        # Multi-byte spaces are not suitable; the regular expression matches none of them.
        before = held[max(at - _CHARACTER, 0) : at].decode(errors="ignore")
        if not before[-1:].isspace():
            return at
    inside = (at for at in range(near, near - _CHARACTER, -1) if held[at] & 0xC0 != 0x80)
    return next(inside, near)


def _part(path: Path, begin: int, data: bytes, *, ends: bool) -> Found:
    if begin == 0 and data.startswith(BOM_UTF8):
        text, skipped = data[len(BOM_UTF8) :], len(BOM_UTF8)
    else:
        text, skipped = data, 0
    try:
        return Record(path, f"byte {begin:,}", text.decode(), ends, begins=begin == 0)
    except UnicodeDecodeError as error:
        wrong, at = text[error.start], begin + skipped + error.start
        return Damage(path, f"byte {begin:,}", f"not UTF-8 (byte 0x{wrong:02x} at offset {at:,})")
