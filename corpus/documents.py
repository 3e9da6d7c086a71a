"""A document: a named stretch of UTF-8 text, read in pieces however large it is."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from configs.errors import InputError

BLOCK = 1 << 20  # bytes read at once
PIECE = 1 << 16  # characters handed on at once
LINE = 1 << 16  # bytes within which a line is expected to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Bytes `start` to `stop` of a file, or of text held in memory."""

    name: str  # what errors call it
    source: str  # what it belongs to, for people
    origin: Path | bytes
    digest: str  # SHA-256 of the whole origin
    start: int = 0
    stop: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start

    def pieces(self, size: int = PIECE) -> Iterator[str]:
        """The text in order, at most `size` characters at a time.

        Cuts fall before white space that follows something else. Byte-level BPE never merges
        across such a place, so the pieces together give the very tokens of the whole.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        rest = ""
        for block in self._blocks():
            rest += decoder.decode(block)
            while len(rest) > size:
                cut = _cut(rest, size)
                yield rest[:cut]
                rest = rest[cut:]
        yield rest + decoder.decode(b"", final=True)

    def divided(self, fraction: float) -> tuple[Document, Document]:
        """Head and tail; the tail begins a line and has about `fraction` of the bytes."""
        at = self.start + round(self.size * (1 - fraction))
        with _open(self.origin) as stream:
            begin = max(self.start, at - LINE)
            stream.seek(begin)
            around = stream.read(min(self.stop, at + LINE) - begin)
        cut = begin + _line_start(around, at - begin)
        return replace(self, stop=cut), replace(self, start=cut)

    def _blocks(self) -> Iterator[bytes]:
        with _open(self.origin) as stream:
            stream.seek(self.start)
            left = self.size
            while left and (block := stream.read(min(BLOCK, left))):
                left -= len(block)
                yield block


def examine(origin: Path | bytes, *, name: str, source: str) -> Document | None:
    """Reads all of `origin` once. None if it is blank.

    Raises InputError if it is not UTF-8 or cannot be read.
    """
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    size, blank = 0, True
    try:
        with _open(origin) as stream:
            while block := stream.read(BLOCK):
                pending = len(decoder.getstate()[0])
                text = _decode(decoder, block, size - pending, name)
                digest.update(block)
                size += len(block)
                blank = blank and not text.strip()
        _decode(decoder, b"", size - len(decoder.getstate()[0]), name, final=True)
    except OSError as error:
        raise InputError(f"corpus.text: cannot read {name}: {error.strerror}") from error
    if blank:
        return None
    return Document(name=name, source=source, origin=origin, digest=digest.hexdigest(), stop=size)


def _decode(
    decoder: codecs.IncrementalDecoder, block: bytes, begin: int, name: str, final: bool = False
) -> str:
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        where = f"byte 0x{error.object[error.start]:02x} at offset {begin + error.start:,}"
        raise InputError(f"corpus.text: {name} is not UTF-8 text ({where})") from error


def _open(origin: Path | bytes) -> BinaryIO:
    return BytesIO(origin) if isinstance(origin, bytes) else origin.open("rb")


def _cut(text: str, size: int) -> int:
    for at in range(size, 0, -1):
        if text[at] in " \n" and not text[at - 1].isspace():
            return at
    return size


def _line_start(text: bytes, at: int) -> int:
    """The first line begun at or after `at`, else the last before it, else a character there."""
    after = text.find(b"\n", max(at - 1, 0)) + 1
    if 0 < after < len(text):
        return after
    if before := text.rfind(b"\n", 0, at) + 1:
        return before
    while at < len(text) and text[at] & 0xC0 == 0x80:  # inside a UTF-8 character
        at += 1
    return at
