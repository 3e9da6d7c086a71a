"""Megatron-core's token files: `.bin` holds the tokens, `.idx` the length of each document.

The format is that of `megatron.core.datasets.indexed_dataset`, reimplemented so that tokenising
processes import neither Megatron-core nor torch, and so that a billion lengths stay in arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import InputError

LONGEST = 1 << 26  # tokens; the index counts in 32 bits, so a longer document becomes several
COPIED = 1 << 24  # bytes at once

_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_CODES: dict[np.dtype[Any], int] = {np.dtype(np.int32): 4, np.dtype(np.uint16): 8}
_HEADER = struct.Struct("<9sQBQQ")  # magic, version, type of tokens, sequences, documents + 1

Tokens = npt.NDArray[np.integer]
Lengths = npt.NDArray[np.int32]


def dtype_for(vocabulary: int) -> np.dtype[np.integer]:
    """Megatron-core's choice: 16 bits if they suffice."""
    return np.dtype(np.uint16 if vocabulary < 65_500 else np.int32)


class TokenWriter:
    """Appends documents to a `.bin` file and records their lengths."""

    def __init__(self, path: Path, dtype: np.dtype[np.integer]) -> None:
        self._file = path.open("wb")
        self._dtype = dtype
        self._lengths: list[int] = []

    def add(self, tokens: Tokens, end: int | None) -> None:
        """Adds a document, or with `end` None a part of an unfinished one."""
        for start in range(0, len(tokens), LONGEST):
            stretch = np.ascontiguousarray(tokens[start : start + LONGEST], dtype=self._dtype)
            self._file.write(stretch.data)
            self._lengths.append(len(stretch))
        if end is not None:
            self._file.write(self._dtype.type(end).tobytes())
            if len(tokens):
                self._lengths[-1] += 1
            else:
                self._lengths.append(1)

    @property
    def lengths(self) -> Lengths:
        """Tokens of each document so far, shape (documents,)."""
        return np.array(self._lengths, dtype=np.int32)

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def join(
    prefix: Path, shards: Iterable[Path], lengths: Sequence[Lengths], dtype: np.dtype[np.integer]
) -> int:
    """Writes `prefix`.bin and .idx from `.bin` shards in order; returns the number of tokens."""
    with Path(f"{prefix}.bin").open("wb") as whole:
        for shard in shards:
            with shard.open("rb") as part:
                while block := part.read(COPIED):
                    whole.write(block)
    every = np.concatenate([*lengths, np.zeros(0, np.int32)])
    write_index(Path(f"{prefix}.idx"), every, dtype)
    return int(every.sum(dtype=np.int64))


def write_index(path: Path, lengths: Lengths, dtype: np.dtype[np.integer]) -> None:
    """Writes the `.idx` of documents with one sequence each."""
    starts = np.zeros(len(lengths), dtype=np.int64)
    np.cumsum(lengths[:-1].astype(np.int64) * dtype.itemsize, out=starts[1:])
    documents = np.arange(len(lengths) + 1, dtype=np.int64)
    header = _HEADER.pack(_MAGIC, _VERSION, _CODES[dtype], len(lengths), len(documents))
    with path.open("wb") as file:
        for content in (header, lengths.astype("<i4"), starts.astype("<i8"), documents):
            file.write(content if isinstance(content, bytes) else content.tobytes())


def check_index(prefix: Path) -> int:
    """The number of tokens in `prefix`.bin. Raises InputError if the .idx does not match."""
    path, tokens = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_MAGIC):
            raise InputError(f"{path}, byte 0: is not the index of a token file")
        _, _, code, count, _ = _HEADER.unpack(head)
        types = {number: dtype.itemsize for dtype, number in _CODES.items()}
        if code not in types:
            raise InputError(f"{path}, byte {_HEADER.size - 17}: unknown type of tokens {code}")
    if path.stat().st_size < _HEADER.size + 4 * count:
        raise InputError(f"{path}: ends before the lengths of its {count:,} documents")
    lengths = np.memmap(path, dtype="<i4", mode="r", offset=_HEADER.size, shape=(count,))
    total = int(lengths.sum(dtype=np.int64))
    size = tokens.stat().st_size
    if size != total * types[code]:
        raise InputError(
            f"{path} does not match {tokens.name}: its documents are {total:,} tokens of "
            f"{types[code]} bytes, the file has {size:,} bytes"
        )
    return total
