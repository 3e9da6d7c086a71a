"""Reading in one pass against torch's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load

from parallel.checkpoint import manifest as files
from parallel.checkpoint.io import read, write
from parallel.checkpoint.manifest import Damaged
from parallel.checkpoint.metadata import read_metadata
from parallel.checkpoint.reader import HashingReader
from parallel.checkpoint.shards import Shard, unsharded

SHAPES: dict[str, tuple[int, ...]] = {
    "master.matrix": (301, 7001),  # over several blocks of a file
    "master.bias": (768,),
    "master.number": (),
    "exp_avg.matrix": (3, 5, 7),
    "exp_avg.long": (5_000_001,),
}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {name: torch.randn(shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def checkpoint(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    digests = write(shards(tensors), folder, alone=True)
    for path in folder.iterdir():
        assert files.file_digest(path) == digests.get(path.name, files.file_digest(path))
    files.write_manifest(folder, {path.name: files.file_digest(path) for path in folder.iterdir()})
    return folder


def shards(tensors: dict[str, Tensor]) -> dict[str, Shard]:
    return {name: unsharded(tensor) for name, tensor in tensors.items()}


def data_files(checkpoint: Path) -> list[str]:
    return files.by_kind(checkpoint)[0]


def empty() -> dict[str, Tensor]:
    return {name: torch.full(shape, torch.nan) for name, shape in SHAPES.items()}


def test_bit_for_bit_what_was_written_and_what_torch_reads(
    checkpoint: Path, tensors: dict[str, Tensor]
) -> None:
    own, torchs = empty(), empty()
    assert read(shards(own), checkpoint, data_files(checkpoint), alone=True) == set(
        data_files(checkpoint)
    )
    load(torchs, storage_reader=FileSystemReader(checkpoint), no_dist=True)
    for name, tensor in tensors.items():
        assert torch.equal(own[name], tensor), name
        assert torch.equal(torchs[name], tensor), name


def test_nothing_goes_torchs_own_way_in_the_usual_case(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Any] = []
    plain = FileSystemReader.read_data

    def read_data(self: FileSystemReader, plan: Any, planner: Any) -> Any:
        left.extend(plan.items)
        return plain(self, plan, planner)

    monkeypatch.setattr(FileSystemReader, "read_data", read_data)
    read(shards(empty()), checkpoint, data_files(checkpoint), alone=True)
    assert left == []


def test_what_lies_otherwise_goes_torchs_own_way(
    checkpoint: Path, tensors: dict[str, Tensor]
) -> None:
    own: dict[str, Tensor] = empty() | {
        "master.matrix": torch.full((7001, 301), torch.nan).t(),
        "master.bias": torch.full((768,), torch.nan, dtype=torch.float64),
    }
    read(shards(own), checkpoint, data_files(checkpoint), alone=True)
    for name, tensor in tensors.items():
        assert torch.equal(own[name], tensor.to(own[name].dtype)), name


def test_a_file_of_which_little_is_wanted_is_not_read_whole(
    checkpoint: Path, tensors: dict[str, Tensor]
) -> None:
    own = {"master.bias": torch.empty(768)}
    assert read(shards(own), checkpoint, data_files(checkpoint), alone=True) == set()
    assert torch.equal(own["master.bias"], tensors["master.bias"])


def test_two_may_want_the_same(checkpoint: Path, tensors: dict[str, Tensor]) -> None:
    """Which torch's plans do not do today."""
    from parallel.checkpoint.reader import _read_whole

    (name,) = {
        stored.relative_path
        for index, stored in FileSystemReader(checkpoint).read_metadata().storage_data.items()
        if index.fqn == "exp_avg.long"
    }
    content = (checkpoint / name).read_bytes()
    taken = [bytearray(20 << 20) for _ in range(2)] + [bytearray(3)]
    places = [100, 100, 9_000_000]
    pieces = [(at, memoryview(view)) for at, view in zip(places, taken, strict=True)]
    assert _read_whole(checkpoint / name, pieces)["bytes"] == len(content)
    for at, view in zip(places, taken, strict=True):
        assert view[: len(content) - at] == content[at : at + len(view)]


def test_a_turned_bit_is_found_on_the_way(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    for name in data_files(checkpoint):
        copy = Path(shutil.copytree(checkpoint, tmp_path / name))
        content = bytearray((copy / name).read_bytes())
        content[-1] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(Damaged, match=f"{name} is damaged"):
            read(shards(empty()), copy, data_files(copy), alone=True)


def test_digests_that_the_reader_does_not_know_are_left_to_others(
    checkpoint: Path, tensors: dict[str, Tensor]
) -> None:
    reader = HashingReader(checkpoint, {}, read_metadata(checkpoint))
    own = empty()
    load(own, storage_reader=reader, no_dist=True)
    assert reader.proven == set()
    assert all(torch.equal(own[name], tensor) for name, tensor in tensors.items())
