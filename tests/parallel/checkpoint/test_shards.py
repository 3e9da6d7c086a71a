"""The pieces of a rank's shards: together the tensor, without padding and without overlap."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from models.initialise import Part
from models.layer_table import padded_rows
from parallel.checkpoint.shards import LoadPlanner, SavePlanner, Shard, unsharded


def shards(whole: Tensor, dim: int | None, parts: int, blocks: int = 1) -> list[Shard]:
    """Those of every rank."""
    if dim is None:
        return [unsharded(whole)]
    shape = list(whole.shape)
    shape[dim] //= parts
    cut = [Part(dim, index, parts, blocks) for index in range(parts)]
    return [Shard(part.of(whole, tuple(shape)), part, whole.shape) for part in cut]


@pytest.mark.parametrize(
    ("dim", "parts", "blocks"), [(None, 1, 1), (0, 2, 1), (1, 3, 1), (0, 3, 2), (0, 1, 2)]
)
def test_pieces_of_all_ranks_are_the_tensor(dim: int | None, parts: int, blocks: int) -> None:
    whole = torch.arange(12 * 6.0).view(12, 6)
    found = torch.full_like(whole, torch.nan)
    for shard in shards(whole, dim, parts, blocks):
        for offset, piece in shard.pieces().items():
            place = tuple(
                slice(at, at + size) for at, size in zip(offset, piece.shape, strict=True)
            )
            assert found[place].isnan().all(), "two ranks hold the same element"
            found[place] = piece
    assert torch.equal(found, whole)


def test_a_gated_matrix_has_a_piece_in_each_half() -> None:
    whole = torch.arange(12.0)[:, None]
    second = shards(whole, 0, 3, blocks=2)[1]
    assert second.local[:, 0].tolist() == [2, 3, 8, 9]
    assert {offset[0]: piece[:, 0].tolist() for offset, piece in second.pieces().items()} == {
        2: [2, 3],
        8: [8, 9],
    }


@pytest.mark.parametrize("tensor", [1, 2, 3, 4])
def test_padding_is_in_no_piece(tensor: int) -> None:
    vocab = 130
    rows = padded_rows(vocab, tensor) // tensor
    sizes = []
    for index in range(tensor):
        part = Part(0, index, tensor)
        shard = Shard(torch.zeros(rows, 2), part, torch.Size([vocab, 2]), padded=True)
        sizes += [len(piece) for piece in shard.pieces().values()]
    assert sum(sizes) == vocab


def stored(size: tuple[int, ...]) -> Metadata:
    """What a checkpoint says of one tensor, named it, written in one chunk."""
    chunk = ChunkStorageMetadata(offsets=torch.Size([0] * len(size)), sizes=torch.Size(size))
    tensor = TensorStorageMetadata(TensorProperties(), torch.Size(size), [chunk])
    return Metadata(state_dict_metadata={"it": tensor})


def plan(shard: Shard, size: tuple[int, ...]) -> list[tuple[int, int]]:
    """The rows that are read: the first, and how many."""
    planner = LoadPlanner()
    planner.set_up_planner({"it": shard}, stored(size))
    items = planner.create_local_plan().items
    return [(item.storage_offsets[0], item.lengths[0]) for item in items]


@pytest.mark.parametrize("rows", [130, 256, 384])
def test_a_padded_vocabulary_is_read_without_its_padding(rows: int) -> None:
    last = Shard(torch.ones(128, 2), Part(0, 1, 2), torch.Size([130, 2]), padded=True)
    assert plan(last, (rows, 2)) == [(128, 2)]
    assert not last.local.any(), "what is not read is 0"


@pytest.mark.parametrize(
    ("size", "padded"), [((129, 2), True), ((130, 3), True), ((256, 2), False), ((130,), True)]
)
def test_another_shape_is_told(size: tuple[int, ...], padded: bool) -> None:
    shard = Shard(torch.ones(130, 2), Part(), torch.Size([130, 2]), padded=padded)
    with pytest.raises(ValueError, match=r"it is \(1|it is \(2"):
        plan(shard, size)


def test_a_missing_tensor_is_told() -> None:
    planner = LoadPlanner()
    planner.set_up_planner({"other": unsharded(torch.ones(2))}, stored((2,)))
    with pytest.raises(ValueError, match="no tensor other"):
        planner.create_local_plan()


def test_only_the_piece_is_written() -> None:
    (_, second) = shards(torch.arange(12.0)[:, None], 0, 2, blocks=2)
    planner = SavePlanner()
    planner.set_up_planner({"it": second}, None, True)
    items = planner.create_local_plan().items
    offsets = [torch.Size([3, 0]), torch.Size([9, 0])]
    assert [item.index.offset for item in items] == offsets
    data = planner.lookup_object(MetadataIndex("it", offsets[1]))
    assert data[:, 0].tolist() == [9, 10, 11]
    assert data.untyped_storage().nbytes() == 3 * 4
