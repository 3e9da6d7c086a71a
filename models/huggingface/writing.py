"""Writes Hugging Face's safetensors from pieces of our parameters that come in any order.

The headers are known before the first number is, so each piece goes to its place at once, and no
more than a piece is held in memory.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from configs.errors import InputError
from models.huggingface.families import family_for
from models.huggingface.family import Family
from models.huggingface.keys import CONFIG
from models.huggingface.tensors import Span
from models.scratch import Scratch, is_finite
from models.shape import ModelShape

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
LARGEST = 5 * 10**9  # bytes of the tensors of a file, unless one of them is larger
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Keys that are always written: each class of transformers' has numbers of its own for them."""

_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_BITS = {4: (torch.int32, np.int32), 2: (torch.int16, np.int16)}
_ALIGNED = 8  # bytes
_SETTLING = 32  # pieces on their way to the disk


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies: a file's descriptor and path, and where its numbers begin."""

    handle: int
    path: Path
    start: int
    shape: tuple[int, ...]


class Writer:
    """New files of all tensors of a model, in a folder. Raises OSError if the disk is full.

    Args:
        largest: bytes of the tensors of a file.
    """

    def __init__(
        self,
        folder: Path,
        family: Family,
        shape: ModelShape,
        dtype: torch.dtype,
        largest: int = LARGEST,
    ) -> None:
        self._folder, self._dtype = folder, dtype
        self._origins, self._scratch = family.origins(shape), Scratch()
        self._places: dict[str, _Place] = {}
        self._handles: list[int] = []
        self._settling: deque[tuple[int, int, int]] = deque()  # handle, start and size of pieces
        shapes = {name: each for it in self._origins.values() for name, each in it.shapes().items()}
        self._shards = _shards({name: self._bytes(each) for name, each in shapes.items()}, largest)
        for file, names in self._shards.items():
            self._create(folder / file, {name: shapes[name] for name in names})

    def take(self, name: str, offset: tuple[int, ...], rows: Tensor) -> None:
        """Writes a piece of a parameter, float32, that begins at `offset`.

        Raises InputError for numbers that the files could not hold.
        """
        origin = self._origins[name]
        bits, _ = _BITS[self._dtype.itemsize]
        whole = rows.dim() == 1 or (rows.shape[1] == origin.columns and not origin.transposed)
        for span in origin.spans(offset[0], len(rows)):
            part = self._scratch.tensor((span.size, *rows.shape[1:]), self._dtype)
            for at, theirs in span.places:
                begin, first = theirs.start - span.start, at - offset[0]
                part[begin : begin + theirs.size] = rows[first : first + theirs.size]
            if not is_finite(part):
                raise InputError(f"{span.tensor}: {_not_finite(rows, self._dtype)}")
            if whole:
                self._write(span, part.view(bits))
            else:
                self._scatter(span, part.view(bits), offset[1], origin.transposed)

    def close(self) -> None:
        """Makes all of it stay on the disk, and writes the index if there are several files."""
        for handle in self._handles:
            os.fsync(handle)
        if len(self._shards) > 1:
            size = sum(self._bytes(place.shape) for place in self._places.values())
            files = {name: file for file, names in self._shards.items() for name in names}
            index = {"metadata": {"total_size": size}, "weight_map": files}
            text = json.dumps(index, indent=2) + "\n"
            (self._folder / INDEX).write_text(text, encoding="utf-8")

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            for handle in self._handles:
                os.close(handle)

    def _bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape) * self._dtype.itemsize

    def _create(self, path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        begins, end = {}, 0
        for name, shape in shapes.items():
            begins[name] = end
            end += self._bytes(shape)
            offsets = [begins[name], end]
            header[name] = {
                "dtype": _DTYPES[self._dtype],
                "shape": list(shape),
                "data_offsets": offsets,
            }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % _ALIGNED)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._handles.append(handle)
        start = len(text).to_bytes(8, "little") + text
        os.posix_fallocate(handle, 0, len(start) + end)  # a disk that is too small says so now
        _write_all(handle, memoryview(start), 0)
        for name, shape in shapes.items():
            self._places[name] = _Place(handle, path, len(start) + begins[name], shape)

    def _write(self, span: Span, part: Tensor) -> None:
        """Whole rows, which lie one after the other."""
        place = self._places[span.tensor]
        row = self._bytes(place.shape[1:])
        data = memoryview(part.numpy()).cast("B")  # type: ignore[arg-type]
        start = place.start + span.start * row
        _write_all(place.handle, data, start)
        self._settle(place.handle, start, len(data))

    def _settle(self, handle: int, start: int, size: int) -> None:
        """Has a piece go to the disk while the next ones are made, and leave the cache after them:
        memory that is free costs more to find than the disk does to write.
        """
        if not hasattr(os, "posix_fadvise"):
            return
        # Pages that still have to be written are begun with, those that have been are let go.
        os.posix_fadvise(handle, start, size, os.POSIX_FADV_DONTNEED)
        self._settling.append((handle, start, size))
        if len(self._settling) > _SETTLING:
            os.posix_fadvise(*self._settling.popleft(), os.POSIX_FADV_DONTNEED)

    def _scatter(self, span: Span, part: Tensor, column: int, transposed: bool) -> None:
        """Some columns of rows, which lie apart."""
        place = self._places[span.tensor]
        _, kind = _BITS[self._dtype.itemsize]
        there = np.memmap(place.path, kind, "r+", place.start, place.shape)
        along = slice(span.start, span.start + span.size)
        across = slice(column, column + part.shape[1])
        if transposed:
            there[across, along] = part.t().numpy()
        else:
            there[along, across] = part.numpy()


def save(weights: Mapping[str, Tensor], shape: ModelShape, folder: Path) -> None:
    """Writes whole parameters, float32, and their config.json into an empty folder."""
    family = family_for(shape)
    with Writer(folder, family, shape, torch.float32) as writer:
        for name, weight in weights.items():
            writer.take(name, (0,) * weight.dim(), weight)
    write_config(folder, family, shape)


def write_config(folder: Path, family: Family, shape: ModelShape, **more: object) -> None:
    """Writes config.json, with `more` in it."""
    said = {**family.config(shape), **dict.fromkeys(TOKENS), **more}
    (folder / CONFIG).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def _not_finite(rows: Tensor, dtype: torch.dtype) -> str:
    """What is wrong with rows that are not finite as `dtype`."""
    if not is_finite(rows):
        return "has numbers that are infinite or NaN"
    kind, wider = ("fp16", "bf16") if dtype == torch.float16 else ("bf16", "float32")
    return f"has numbers that are too large for precision={kind}; nearest: precision={wider}"


def _shards(sizes: dict[str, int], largest: int) -> dict[str, list[str]]:
    """The tensors of each file."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if groups[-1] and filled + size > largest:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    if len(groups) == 1:
        return {WEIGHTS: groups[0]}
    stem, suffix = WEIGHTS.split(".")
    return {
        f"{stem}-{number:05d}-of-{len(groups):05d}.{suffix}": names
        for number, names in enumerate(groups, start=1)
    }


def _write_all(handle: int, data: memoryview, start: int) -> None:
    while data:
        count = os.pwrite(handle, data, start)
        data, start = data[count:], start + count
