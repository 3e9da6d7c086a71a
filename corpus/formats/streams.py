"""The content of a file, plain or compressed, in blocks that fit in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import zstandard

from configs.errors import InputError

BLOCK = 1 << 20  # bytes read at once from a plain file, and the maximum that zlib returns at once
BUFFER = 1 << 20  # bytes requested from the file system at once
# Bytes decompressed at once: even if all is run lengths, zstd makes no more than 128 MiB of them.
BITE = 1 << 12


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that continue those of the previous block.

    A compressed file is a sequence of members (zstd: frames), each compressed independently; a
    plain file counts as one member.
    """

    data: bytes
    member: int  # where in the file its member starts
    ends: bool = False  # nothing follows in this member, and its checksum is right


@dataclass(frozen=True, slots=True)
class Broken:
    """The file cannot be decompressed here."""

    at: int  # where in the file the member starts
    reason: str


Step: TypeAlias = tuple[bytes, bytes, bool]  # decompressed bytes, input left, whether at the end


@dataclass(frozen=True, slots=True)
class _Codec:
    magic: bytes  # a member starts with it
    decompressor: Callable[[], Callable[[bytes], Step]]


def _gzip() -> Callable[[bytes], Step]:
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def step(data: bytes) -> Step:
        made = inflate.decompress(data, BLOCK)
        return made, inflate.unused_data if inflate.eof else inflate.unconsumed_tail, inflate.eof

    return step


def _zstd() -> Callable[[bytes], Step]:
    # `zstd --long=31` creates windows of 2 GiB; without this they are refused.
    frame = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    def step(data: bytes) -> Step:
        return frame.decompress(data), frame.unused_data, frame.eof

    return step


_CODECS = {".gz": _Codec(b"\x1f\x8b\x08", _gzip), ".zst": _Codec(b"\x28\xb5\x2f\xfd", _zstd)}


def compressed(path: Path) -> bool:
    """Whether the file is compressed, judged by its name."""
    return path.suffix.lower() in _CODECS


def blocks(path: Path, start: int = 0, resume: bytes | None = None) -> Iterator[Block | Broken]:
    """The content from `start`, which is 0 for a compressed file.

    If a compressed file is damaged, reading resumes with the next member whose content begins with
    `resume`; without `resume` it ends there.

    Raises InputError, naming the file, if it cannot be read.
    """
    codec = _CODECS.get(path.suffix.lower())
    try:
        with path.open("rb", buffering=BUFFER) as file:
            if codec is None:
                file.seek(start)
                yield from _plain(file)
            else:
                assert start == 0, "a compressed file is read from its beginning"
                yield from _members(file, codec, resume)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _plain(file: BinaryIO) -> Iterator[Block]:
    while data := file.read(BLOCK):
        yield Block(data, 0)
    yield Block(b"", 0, ends=True)


def _members(file: BinaryIO, codec: _Codec, resume: bytes | None) -> Iterator[Block | Broken]:
    member = _skip_zeros(file, 0)
    while member is not None:
        member = yield from _member_or_broken(file, codec, member, resume)


def _member_or_broken(
    file: BinaryIO, codec: _Codec, member: int, resume: bytes | None
) -> Generator[Block | Broken, None, int | None]:
    """Returns where the next member starts, None if there is none."""
    try:
        stop = yield from _member(file, codec, member)
        return _skip_zeros(file, stop)
    except EOFError:
        yield Broken(member, f"the compressed data ends early after {file.tell():,} bytes")
    except (zlib.error, zstandard.ZstdError) as error:
        cause = str(error).rpartition(": ")[2]
        yield Broken(member, f"the compressed data is damaged ({cause})")
    return _next_member(file, codec, member + 1, resume)


def _member(file: BinaryIO, codec: _Codec, member: int) -> Generator[Block, None, int]:
    """The blocks of one member; returns its end position in the file.

    Raises EOFError if the file ends before it, zlib.error or ZstdError if it is damaged.
    """
    file.seek(member)
    step = codec.decompressor()
    left, ends = b"", False
    while not ends:
        data = left or file.read(BITE)
        made, left, ends = step(data)
        if not (data or made or ends):
            raise EOFError
        if made or ends:
            yield Block(made, member, ends)
    return file.tell() - len(left)


def _skip_zeros(file: BinaryIO, at: int) -> int | None:
    """The first byte from `at` that is not zero; None at the end. Tapes are padded with zeros."""
    file.seek(at)
    while data := file.read(BITE):
        if rest := data.lstrip(b"\0"):
            return at + len(data) - len(rest)
        at += len(data)
    return None


def _next_member(file: BinaryIO, codec: _Codec, at: int, begins: bytes | None) -> int | None:
    if begins is None:
        return None
    file.seek(at)
    before = b""
    while data := file.read(BLOCK):
        window = before + data
        base = at - len(before)
        found = window.find(codec.magic)
        while found >= 0:
            if _begins(file, codec, base + found, begins):
                return base + found
            found = window.find(codec.magic, found + 1)
        at += len(data)
        before = window[-len(codec.magic) + 1 :]
        file.seek(at)
    return None


def _begins(file: BinaryIO, codec: _Codec, member: int, begins: bytes) -> bool:
    made = b""
    try:
        for block in _member(file, codec, member):
            made += block.data
            if len(made) >= len(begins):
                break
    except (zlib.error, zstandard.ZstdError, EOFError):
        pass  # what came before the damage counts
    return made.startswith(begins)
