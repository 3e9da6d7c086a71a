"""A rank's shards in torch's distributed checkpoint: where each one's pieces lie in its parameter.

A checkpoint holds every parameter as it is, without the vocabulary's padding, and each half of a
gated MLP's matrix in its place, whatever the layout cut them into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from models.initialise import Part
from models.scratch import Scratch

_PIECE = 1 << 24  # bytes of a streamed tensor at a time
_FLOAT32 = 4  # bytes


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """One rank's part of one tensor.

    Attributes:
        local: the part, in host memory.
        whole: the tensor's shape, without padding.
        padded: rows beyond `whole` may be stored, as older checkpoints do.
    """

    local: Tensor
    part: Part
    whole: torch.Size
    padded: bool = False

    def pieces(self) -> dict[torch.Size, Tensor]:
        """Contiguous runs along the dimension that is cut, by their offset in the tensor."""
        dim = self.part.dim
        if dim is None:
            return {torch.Size([0] * self.local.dim()): self.local}
        found = {}
        for piece in self.part.pieces(self.whole[dim], self.local.shape[dim]):
            offset = [piece.start if each == dim else 0 for each in range(self.local.dim())]
            found[torch.Size(offset)] = self.local.narrow(dim, piece.at, piece.size)
        return found

    def piece(self, offset: torch.Size) -> Tensor:
        """The piece at an offset of `pieces`."""
        return self.pieces()[offset]

    @property
    def nbytes(self) -> int:
        """Bytes of the part."""
        return self.local.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """A float32 tensor of one process that is made piece by piece while it is written.

    Attributes:
        fill: makes rows of it in the memory given, from the row whose number is given on.
    """

    whole: torch.Size
    fill: Callable[[Tensor, int], None]

    def pieces(self) -> dict[torch.Size, Tensor]:
        """Runs of whole rows by their offset, without memory."""
        rows, *others = self.whole
        return {
            torch.Size([first, *[0] * len(others)]): torch.empty(
                self._rows_from(first), *others, device="meta"
            )
            for first in range(0, rows, self._rows_from(0))
        }

    def piece(self, offset: torch.Size) -> Tensor:
        """The piece at an offset of `pieces`, made now; valid until this thread's next one."""
        piece = _scratch.tensor((self._rows_from(offset[0]), *self.whole[1:]))
        self.fill(piece, offset[0])
        return piece

    def _rows_from(self, first: int) -> int:
        rows, *others = self.whole
        return min(max(1, _PIECE // (math.prod(others) * _FLOAT32)), rows - first)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.whole) * _FLOAT32


# torch.save leaves what it saved to the garbage collector, which may not come before many pieces
# are made.
_scratch = Scratch()

Shards = Mapping[str, Shard]
Saved = Mapping[str, Shard | Streamed]


def unsharded(tensor: Tensor) -> Shard:
    """A tensor that one process holds."""
    return Shard(tensor, Part(), tensor.shape)


class SavePlanner(DefaultSavePlanner):
    """Plans the writing of `Saved`."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def create_local_plan(self) -> SavePlan:
        """An item for each piece of this rank's shards."""
        shards: Saved = self.state_dict
        self.plan = SavePlan(
            [
                _write_item(name, shard, offset, piece)
                for name, shard in shards.items()
                for offset, piece in shard.pieces().items()
            ]
        )
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Any:
        """The piece, as a storage that ends where it ends; torch would write all of any other."""
        piece = self.state_dict[index.fqn].piece(index.offset)
        return torch.from_numpy(piece.detach().contiguous().numpy())


class LoadPlanner(DefaultLoadPlanner):
    """Plans the reading of `Shards`, whatever they were when they were written."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def set_up_planner(
        self, state_dict: Any, metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        """Takes the shards as they are; torch's own would drop what it does not know."""
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator

    def create_local_plan(self) -> LoadPlan:
        """Raises ValueError for a tensor that is missing, or of another shape."""
        items: list[Any] = []
        assert self.metadata is not None
        for name, shard in self.state_dict.items():
            stored = self.metadata.state_dict_metadata.get(name)
            if not isinstance(stored, TensorStorageMetadata):
                raise ValueError(f"it has no tensor {name}")
            if not _fits(stored.size, shard):
                raise ValueError(
                    f"{name} is {tuple(stored.size)}, the model has {tuple(shard.whole)}"
                )
            if shard.padded:
                shard.local.zero_()
            chunks = [
                ChunkStorageMetadata(offsets=offset, sizes=piece.shape)
                for offset, piece in shard.pieces().items()
            ]
            items += create_read_items_for_chunk_list(name, stored, chunks)
        return LoadPlan(items)

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        """The piece that is read into."""
        piece: Tensor = self.state_dict[index.fqn].pieces()[index.offset]
        return piece.detach()


def _fits(stored: torch.Size, shard: Shard) -> bool:
    if shard.padded and len(stored) == len(shard.whole):
        return stored[0] >= shard.whole[0] and stored[1:] == shard.whole[1:]
    return stored == shard.whole


def _write_item(name: str, shard: Shard | Streamed, offset: torch.Size, piece: Tensor) -> WriteItem:
    return WriteItem(
        index=MetadataIndex(name, offset),
        type=WriteItemType.SHARD,
        tensor_data=TensorWriteData(
            chunk=ChunkStorageMetadata(offsets=offset, sizes=piece.shape),
            properties=TensorProperties.create_from_tensor(piece),
            size=shard.whole,
        ),
    )
