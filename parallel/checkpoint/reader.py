"""torch's distributed checkpoint reader, with one pass over memory instead of four when possible.

The fast path applies to a tensor that is needed as it is stored, in full and contiguous: its data
is read directly into the target and hashed there. torch's own reader handles everything else.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import torch
import xxhash
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from parallel.checkpoint.direct_io import read_blocks
from parallel.checkpoint.manifest import FILES_AT_A_TIME, XXH3, Damaged, Digest

_WORTH_HASHING = 4  # a file is read in full if a rank needs at least 1/4 of it
_END = 4096  # bytes at the end of an archive, which hold its directory
_RECORD = "data/0"  # the record of a tensor's data in the archive written by torch.save
_GLOBAL = re.compile(r"GLOBAL (\S+)")  # in torch's message about what it refuses to unpickle
_Piece = tuple[int, memoryview]  # offset in the file, and where the data goes


class HashingReader(FileSystemReader):
    """Verifies the digests of the files that it reads in full.

    Args:
        digests: of the checkpoint's files, by name.
        metadata: of the checkpoint; torch's own reader would execute code in it.
    """

    def __init__(self, checkpoint: Path, digests: dict[str, Digest], metadata: Metadata) -> None:
        super().__init__(checkpoint)
        self.proven: set[str] = set()  # files whose digests were verified
        self._folder = checkpoint
        self._digests = digests
        self._metadata = metadata

    # Without a `kwargs` parameter torch does not look for per-rank metadata.
    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """Returns the metadata read before; unpickles nothing."""
        return self._metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Raises Damaged if a file read in full differs from what was written, or holds anything
        but tensors.
        """
        by_file: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            by_file.setdefault(self.storage_data[item.storage_index].relative_path, []).append(item)
        with ThreadPoolExecutor(FILES_AT_A_TIME) as readers:
            left = list(
                readers.map(lambda name: self._read_file(name, by_file[name], planner), by_file)
            )
        try:
            return super().read_data(replace(plan, items=list(chain(*left))), planner)
        except pickle.UnpicklingError as error:  # torch's own reader loads weights only
            named = _GLOBAL.search(str(error))
            what = named[1] if named else "something else than a tensor"
            raise Damaged(f"where a tensor should be, its files hold {what}") from None

    def _read_file(self, name: str, items: list[ReadItem], planner: LoadPlanner) -> list[ReadItem]:
        """Reads tensors stored exactly as needed; returns the remaining items."""
        pieces: list[_Piece] = []
        left: list[ReadItem] = []
        with (self._folder / name).open("rb", buffering=0) as file:
            self._ask_for_ends(file.fileno(), items)
            for item in items:
                target = None if item.type == LoadItemType.BYTE_IO else planner.resolve_tensor(item)
                start = None if target is None else self._start(file, item, target.detach())
                if target is None or start is None:
                    left.append(item)
                else:
                    pieces.append((start, _bytes_of(target.detach())))
                    planner.commit_tensor(item, target)
        known = self._digests.get(name, {})
        wanted = sum(len(view) for _, view in pieces)
        if XXH3 not in known or wanted * _WORTH_HASHING < known["bytes"]:
            _read_parts(self._folder / name, pieces)
        elif _read_whole(self._folder / name, pieces) != known:
            raise Damaged(f"{name} is damaged")
        else:
            self.proven.add(name)
        return left

    def _ask_for_ends(self, handle: int, items: list[ReadItem]) -> None:
        """Prefetches what `_start` reads, and nothing else."""
        if not hasattr(os, "posix_fadvise"):
            return
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        for item in items:
            at = self.storage_data[item.storage_index]
            for start in (at.offset, at.offset + max(0, at.length - _END)):
                os.posix_fadvise(handle, start, _END, os.POSIX_FADV_WILLNEED)

    def _start(self, file: io.FileIO, item: ReadItem, target: Tensor) -> int | None:
        """The offset of the tensor's data, if it is stored in the target's order and type."""
        if target.dtype != torch.float32 or not target.is_contiguous() or any(item.storage_offsets):
            return None
        return data_start(file, self.storage_data[item.storage_index], tuple(target.shape))


def data_start(file: io.FileIO, at: _StorageInfo, shape: tuple[int, ...]) -> int | None:
    """The offset in its file of a tensor's numbers; None unless they are float32 of this shape, one
    after the other.
    """
    if at.transform_descriptors:
        return None
    archive: Any = torch._C.PyTorchFileReader(
        cast(IO[bytes], _Ends(file.fileno(), at.offset, at.length))
    )
    if _shape_of_contiguous(archive.get_record("data.pkl")) != shape:
        return None
    start = int(archive.get_record_offset(_RECORD))
    return at.offset + start if start + 4 * math.prod(shape) <= at.length else None


class _Ends(io.RawIOBase):
    """A section of a file, optimized for reading its beginning and end: two disk reads."""

    def __init__(self, handle: int, first: int, size: int) -> None:
        self._handle, self._first, self._size = handle, first, size
        self._position = 0
        last = max(0, size - _END)
        self._kept = {
            start: os.pread(handle, min(_END, size), first + start) for start in {0, last}
        }

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._size - self._position)
        for start, kept in self._kept.items():
            at = self._position - start
            if at >= 0 and at + size <= len(kept):
                found = kept[at : at + size]
                break
        else:
            found = os.pread(self._handle, size, self._first + self._position)
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


def _read_whole(path: Path, pieces: list[_Piece]) -> Digest:
    """Fills the pieces while reading the entire file; returns its digest."""
    digest = xxhash.xxh3_128()
    later = sorted(pieces, key=lambda piece: piece[0], reverse=True)
    here: list[_Piece] = []
    first = 0
    for block in read_blocks(path):
        digest.update(block)
        while later and later[-1][0] < first + len(block):
            here.append(later.pop())
        here = [rest for piece in here if (rest := _fill(piece, block, first)) is not None]
        first += len(block)
    return {"bytes": first, XXH3: digest.hexdigest()}


def _fill(piece: _Piece, block: memoryview, first: int) -> _Piece | None:
    """Copies a block, which begins at `first`, into a piece; returns the rest of the piece."""
    start, view = piece
    part = block[start - first : start - first + len(view)]
    view[: len(part)] = part
    return (start + len(part), view[len(part) :]) if len(part) < len(view) else None


def _bytes_of(tensor: Tensor) -> memoryview:
    array: Any = tensor.numpy()
    return memoryview(array).cast("B")


def _read_parts(path: Path, pieces: list[_Piece]) -> None:
    with path.open("rb", buffering=0) as file:
        for start, view in pieces:
            file.seek(start)
            while view:
                count = file.readinto(view)
                if not count:
                    raise Damaged(f"{path.name} ends too early")
                view = view[count:]


def _shape_of_contiguous(pickled: bytes) -> tuple[int, ...] | None:
    """The shape of a float32 tensor that fills its storage in order; None for any other."""
    try:
        start, shape, strides = _TensorPickle(io.BytesIO(pickled)).load()
    except Exception:  # a malicious pickle may raise anything
        return None
    in_order = tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))
    return shape if start == 0 and strides == in_order else None


class _TensorPickle(pickle.Unpickler):
    """A float32 tensor's pickle by torch.save: storage offset, shape and strides."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): lambda _, *place: place[:3],
            ("torch", "FloatStorage"): "FloatStorage",
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> None:
        """Storages are ignored: they add no information."""
