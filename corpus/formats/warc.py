"""WARC, as written by Common Crawl and others, with recovery from damage.

fastwarc parses each record; its boundaries are found here. fastwarc's own iterator returns a
truncated record as complete, trusts a wrong Content-Length, silently ignores a wrong digest, and
ends at the first thing that it does not understand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus.formats.pages import Unreadable, page_text
from corpus.formats.records import Damage, Found, Record
from corpus.formats.streams import Block, Broken, blocks

LONGEST = 256 << 20  # bytes; a longer record is damage
HEADER = 64 << 10  # maximum bytes of a record's header
START = b"WARC/"
GAP = b"\r\n\r\n"  # after the header and after the record

_NEXT = re.compile(rb"WARC/1\.\d\r\n")
_INSIDE = re.compile(GAP + _NEXT.pattern)
_NEXT_LENGTH = 10
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,15})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


def read_warc(path: Path) -> Iterator[Found]:
    """The text of the pages in a file, in order; records without a page are skipped.

    Positions are offsets in the file: in a compressed file, of the member that holds the record,
    followed by "+" and the offset within the member. After damage, reading resumes with the next
    record that can be found.

    Raises InputError if the file cannot be read.
    """
    framer = _Framer()
    for block in blocks(path, resume=START):
        framed = framer.break_off(block) if isinstance(block, Broken) else framer.feed(block)
        for frame in framed:
            try:
                text = page_text(frame.record())
            except Unreadable as error:
                yield Damage(path, frame.position, str(error))
            else:
                if text is not None:
                    yield Record(path, frame.position, text)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The bytes of one record, or the reason why there are none."""

    position: str
    data: bytes = b""
    damage: str = ""

    def record(self) -> bytes:
        """Raises Unreadable."""
        if self.damage:
            raise Unreadable(self.damage)
        return self.data


class _Framer:
    """Finds the records in the blocks of a file."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._member = 0
        self._at = 0  # where `_held` begins, within the member
        self._lost = False  # searching for the next record; the damage has been reported

    def feed(self, block: Block) -> Iterator[_Frame]:
        """The records that are complete now."""
        if block.member != self._member:
            self._member, self._at = block.member, 0
        self._held += block.data
        while self._found_start(block.ends):
            position = self._position()
            try:
                size = self._measure(block.ends)
            except Unreadable as error:
                yield _Frame(position, damage=str(error))
                self._drop(1)  # of the start, so that it is not found again
                self._lost = True
                continue
            if size is None:
                return
            yield _Frame(position, bytes(self._held[:size]))
            self._drop(size)

    def break_off(self, broken: Broken) -> Iterator[_Frame]:
        """Abandons the current record."""
        position = self._position() if self._held else f"byte {broken.at:,}"
        self._held.clear()
        self._lost = False
        yield _Frame(position, damage=broken.reason)

    def _found_start(self, ends: bool) -> bool:
        """Moves to where a record should begin; False if that has not been read yet."""
        if self._lost:
            found = _NEXT.search(self._held)
            if found:
                self._drop(found.start())
            else:
                self._drop(len(self._held) - (0 if ends else _NEXT_LENGTH - 1))
            self._lost = not found and not ends
            return found is not None
        # The gap after the previous record, and any excess of it.
        self._drop(len(self._held) - len(self._held.lstrip(b"\r\n")))
        return bool(self._held)

    def _measure(self, ends: bool) -> int | None:
        """Bytes of the record that begins here, None if it has not been read completely.

        A record is complete when something follows it, or its member ends well: until then the
        checksum that covers it may still be wrong. Raises Unreadable.
        """
        held = self._held
        if not held.startswith(START[: len(held)]):
            raise Unreadable("no WARC record begins here")
        header = held.find(GAP, 0, HEADER)
        if header < 0 and not ends and len(held) < HEADER:
            return None
        # A truncated header seems to continue in the next record's.
        if _NEXT.search(held, 1, max(header, 1)):
            raise Unreadable("the record ends within its header")
        length = _LENGTH.search(held, 0, header + 2) if header >= 0 else None
        if length is None:
            raise Unreadable("the record's header has no end or no Content-Length")
        size = header + len(GAP) + int(length[1])
        if size > LONGEST:
            raise Unreadable(
                f"a record of {size:,} bytes; the longest that is read has {LONGEST:,}"
            )
        if len(held) <= size + len(GAP) and not ends:
            return None
        if len(held) < size:
            raise Unreadable(f"the record of {size:,} bytes ends after {len(held):,}")
        # A record that has lost bytes would include the next one's, up to a gap there.
        if _INSIDE.search(held, header, size):
            raise Unreadable("the record ends before its Content-Length says")
        after = held[size : size + len(GAP)]
        # The last record of a member may lack the gap.
        if after != GAP and not (ends and GAP.startswith(after)):
            raise Unreadable("the record does not end where its Content-Length says")
        return size

    def _position(self) -> str:
        inside = f" + {self._at:,}" if self._member and self._at else ""
        return f"byte {self._member or self._at:,}{inside}"

    def _drop(self, size: int) -> None:
        if size > 0:
            del self._held[:size]
            self._at += size
