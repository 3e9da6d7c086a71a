"""Passes over a checkpoint's weights once, in the order of its files, and holds a few rows.

Every file is read to its end and its digest compared, since what is not needed of it has to be
read for that as well: moments lie between the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from configs.errors import InputError
from parallel.checkpoint import manifest as files
from parallel.checkpoint.manifest import Damaged
from parallel.checkpoint.metadata import read_metadata
from parallel.checkpoint.reader import data_start

Take = Callable[[str, tuple[int, ...], Tensor], None]
"""Takes rows of a parameter: its name, where they begin along each dimension, float32 numbers that
are valid until it returns. Called by several threads."""


@dataclass(frozen=True, slots=True)
class _Record:
    """A piece of a parameter, and where its numbers lie in a file."""

    name: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    start: int

    @property
    def row(self) -> int:
        return 4 * prod(self.shape[1:])

    @property
    def end(self) -> int:
        return self.start + self.row * self.shape[0]


def stream_weights(checkpoint: Path, whole: dict[str, tuple[int, ...]], take: Take) -> None:
    """Gives every piece of the master weights to `take`, with the rows that older ones padded.

    Args:
        whole: the shape of each parameter that the checkpoint has to hold.

    Raises InputError if it holds other ones, Damaged if a file is not what was written: what was
    taken may then be anything.
    """
    files.require_complete(checkpoint)
    data, small = files.by_kind(checkpoint)
    files.require_digests(checkpoint, small)
    metadata = read_metadata(checkpoint)
    _require_shapes(checkpoint, metadata, whole)
    records = _records(checkpoint, metadata, whole)
    known = files.read_manifest(checkpoint)

    def of_file(name: str) -> None:
        blocks = files.verified_blocks(checkpoint / name, known[name])
        _take(blocks, records.get(name, []), take)

    with ThreadPoolExecutor(files.FILES_AT_A_TIME) as readers:
        list(readers.map(of_file, data))


def _require_shapes(
    checkpoint: Path, metadata: Metadata, whole: dict[str, tuple[int, ...]]
) -> None:
    for name, shape in whole.items():
        stored = metadata.state_dict_metadata.get(f"master.{name}")
        if not isinstance(stored, TensorStorageMetadata):
            raise InputError(f"checkpoint={checkpoint}: it has no tensor {name}")
        size = tuple(stored.size)
        if size[0] < shape[0] or size[1:] != shape[1:]:
            raise InputError(f"checkpoint={checkpoint}: {name} is {size}, the model has {shape}")
        if sum(prod(chunk.sizes) for chunk in stored.chunks) != prod(size):
            raise Damaged(f"checkpoint={checkpoint}: {name} is not there as a whole")


def _records(
    checkpoint: Path, metadata: Metadata, whole: dict[str, tuple[int, ...]]
) -> dict[str, list[_Record]]:
    """What each file holds of the weights, in its order."""
    found: dict[str, list[_Record]] = {}
    sizes = {
        (name, tuple(chunk.offsets)): tuple(chunk.sizes)
        for name, stored in metadata.state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata)
        for chunk in stored.chunks
    }
    for index, at in (metadata.storage_data or {}).items():
        kind, _, name = index.fqn.partition(".")
        if kind != "master" or name not in whole:
            continue
        offset = tuple(index.offset or ())
        shape = sizes[index.fqn, offset]
        with (checkpoint / at.relative_path).open("rb", buffering=0) as file:
            start = data_start(file, at, shape)
        if start is None:
            raise Damaged(f"checkpoint={checkpoint}: {name} is not stored as plain numbers")
        found.setdefault(at.relative_path, []).append(_Record(name, offset, shape, start))
    for each in found.values():
        each.sort(key=lambda record: record.start)
    return found


def _take(blocks: Iterator[memoryview], records: list[_Record], take: Take) -> None:
    """Cuts the records out of a file's blocks, some rows at a time."""
    later = list(reversed(records))
    first = 0  # of the block, in the file
    waiting = _Waiting()
    for block in blocks:
        end = first + len(block)
        while later and later[-1].start < end:
            record = later[-1]
            waiting.add(record, block[max(record.start - first, 0) : record.end - first], take)
            if record.end > end:
                break
            later.pop()
        first = end


class _Waiting:
    """Passes on the rows that a block holds as they lie there, and those that two blocks share from
    memory of its own.
    """

    def __init__(self) -> None:
        self._shared = bytearray()
        self._row = 0  # the next one to be taken

    def add(self, record: _Record, data: memoryview, take: Take) -> None:
        """Takes the next bytes of a record."""
        if self._shared:
            missing = record.row - len(self._shared)
            self._shared += data[:missing]
            data = data[missing:]
            if len(self._shared) < record.row:
                return
            self._take(record, memoryview(self._shared), take)
            self._shared = bytearray()
        whole = len(data) // record.row * record.row
        if whole:
            self._take(record, data[:whole], take)
        self._shared += data[whole:]

    def _take(self, record: _Record, rows: memoryview, take: Take) -> None:
        numbers = torch.frombuffer(rows, dtype=torch.float32).view(-1, *record.shape[1:])
        take(record.name, (record.offset[0] + self._row, *record.offset[1:]), numbers)
        self._row = (self._row + len(numbers)) % record.shape[0]
