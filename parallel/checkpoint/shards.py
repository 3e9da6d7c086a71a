"""A rank's shards in torch's distributed checkpoint: where each one's pieces lie in its parameter.

A checkpoint holds every parameter as it is, without the vocabulary's padding, and each half of a
gated MLP's matrix in its place, whatever the layout cut them into.
"""

from __future__ import annotations

from collections.abc import Mapping
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


Shards = Mapping[str, Shard]


def unsharded(tensor: Tensor) -> Shard:
    """A tensor that one process holds."""
    return Shard(tensor, Part(), tensor.shape)


class SavePlanner(DefaultSavePlanner):
    """Plans the writing of `Shards`."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def create_local_plan(self) -> SavePlan:
        """An item for each piece of this rank's shards."""
        shards: Shards = self.state_dict
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
        piece = self.state_dict[index.fqn].pieces()[index.offset]
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


def _write_item(name: str, shard: Shard, offset: torch.Size, piece: Tensor) -> WriteItem:
    return WriteItem(
        index=MetadataIndex(name, offset),
        type=WriteItemType.SHARD,
        tensor_data=TensorWriteData(
            chunk=ChunkStorageMetadata(offsets=offset, sizes=piece.shape),
            properties=TensorProperties.create_from_tensor(piece),
            size=shard.whole,
        ),
    )
