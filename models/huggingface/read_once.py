"""Rows of safetensors that are read this once: the system's cache lets them go after it.

A model that is passed over would fill the cache, and to find memory for it costs more than the disk
does.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from models.huggingface.tensors import Span
from models.scratch import Scratch

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_LENGTH = 8  # bytes at a file's begin that say how many its header takes

_MOST = 100 * 10**6  # bytes of a header, as the library allows


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor: where its numbers begin in the file, and what they are."""

    start: int
    dtype: torch.dtype
    columns: tuple[int, ...]


class ReadOnce:
    """Reads files that safetensors has opened before, and so found to be right."""

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._files: dict[Path, dict[str, _Stored]] = {}

    def rows(self, path: Path, span: Span) -> Tensor:
        """Whole rows in the type they are stored in, valid until this thread's next ones.

        Raises OSError if the file is shorter than it was.
        """
        handle = os.open(path, os.O_RDONLY)
        try:
            if path not in self._files:
                self._files[path] = _header(handle)
            tensor = self._files[path][span.tensor]
            out = self._scratch.tensor((span.size, *tensor.columns), tensor.dtype)
            row = prod(tensor.columns) * tensor.dtype.itemsize
            _read(handle, out, tensor.start + span.start * row)
        finally:
            os.close(handle)
        return out


def told_size(path: Path) -> int | None:
    """The bytes that a file has to have by its own header; None if that is none."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(_LENGTH), "little")
            if size > _MOST:
                return None
            text = file.read(size)
        if len(text) < size:
            return _LENGTH + size
        header = json.loads(text)
        ends = [it["data_offsets"][1] for name, it in header.items() if name != "__metadata__"]
        return int(_LENGTH + size + max(ends, default=0))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None


def _header(handle: int) -> dict[str, _Stored]:
    """Of the tensors in a file. Its format: https://github.com/huggingface/safetensors."""
    size = int.from_bytes(os.pread(handle, _LENGTH, 0), "little")
    header = json.loads(os.pread(handle, size, _LENGTH))
    return {
        name: _Stored(
            _LENGTH + size + it["data_offsets"][0], _DTYPES[it["dtype"]], tuple(it["shape"][1:])
        )
        for name, it in header.items()
        if name != "__metadata__" and it["dtype"] in _DTYPES
    }


def _read(handle: int, out: Tensor, start: int) -> None:
    numbers = memoryview(out.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    advise = getattr(os, "posix_fadvise", None)  # macOS has none
    if advise is not None:
        advise(handle, start, len(numbers), os.POSIX_FADV_WILLNEED)
    done = 0
    while done < len(numbers):
        count = os.preadv(handle, [numbers[done:]], start + done)
        if not count:
            raise OSError(f"ends at byte {start + done:,}, before its tensors do")
        done += count
    if advise is not None:
        advise(handle, start, len(numbers), os.POSIX_FADV_DONTNEED)
