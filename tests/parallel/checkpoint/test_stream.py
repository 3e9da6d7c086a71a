"""Weights passed on in pieces are those that were written, or the checkpoint is refused."""

from __future__ import annotations

import errno
import io
import os
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from configs.errors import InputError, RunError
from models.shape import ModelShape
from parallel.checkpoint import manifest as files
from parallel.checkpoint.manifest import Damaged, TrainState
from parallel.checkpoint.metadata import read_metadata
from parallel.checkpoint.shards import Shard, Streamed, unsharded
from parallel.checkpoint.stream import stream_weights
from parallel.checkpoint.tensors import read_tensors, write_tensors

SHAPE = ModelShape(layers=1, hidden=8, heads=2, context=4, vocab=10)
# More than is passed on at once, more than is written at once, and a vector.
SIZES = {"wide": (3000, 1024), "tall": (5_000_000, 2), "norm": (77,)}


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, generator=generator) for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that were made piece by piece, with moments between them. Not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tokenizer.json").write_text("{}")
    saved: dict[str, Shard | Streamed] = {}
    for name, tensor in tensors().items():

        def fill(out: Tensor, first: int, tensor: Tensor = tensor) -> None:
            out.copy_(tensor[first : first + len(out)])

        saved[f"master.{name}"] = Streamed(tensor.shape, fill)
        saved[f"exp_avg.{name}"] = unsharded(torch.zeros_like(tensor))
    state = TrainState.before_training(SHAPE, 0)
    return write_tensors(saved, state, folder / "tokenizer.json", folder / "checkpoints")


def streamed(checkpoint: Path, sizes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    found = {name: torch.full(size, torch.nan) for name, size in sizes.items()}

    def take(name: str, offset: tuple[int, ...], rows: Tensor) -> None:
        assert all(each == 0 for each in offset[1:])
        found[name][offset[0] : offset[0] + len(rows)] = rows[: len(found[name]) - offset[0]]

    stream_weights(checkpoint, sizes, take)
    return found


def test_pieces_are_what_was_written(checkpoint: Path) -> None:
    expected = tensors()
    stored = read_metadata(checkpoint).state_dict_metadata["master.tall"]
    assert len(stored.chunks) > 1  # type: ignore[union-attr]
    for found in (streamed(checkpoint, SIZES), read_tensors(checkpoint, ("master",))):
        for name, tensor in found.items():
            assert torch.equal(tensor, expected[name.removeprefix("master.")])


def test_no_thread_that_writes_computes_a_checksum_beside_the_digest(checkpoint: Path) -> None:
    written = (read_metadata(checkpoint).storage_data or {}).values()
    for at in written:
        content = (checkpoint / at.relative_path).read_bytes()[at.offset : at.offset + at.length]
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert {each.CRC for each in archive.infolist()} == {0}, at.relative_path
    assert len({at.relative_path for at in written}) == files.FILES_AT_A_TIME


def test_rows_beyond_the_vocabulary_may_be_stored(checkpoint: Path) -> None:
    found = streamed(checkpoint, {"wide": (2999, 1024)})
    assert torch.equal(found["wide"], tensors()["wide"][:2999])


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"other": (1,)}, "it has no tensor other"),
        ({"norm": (78,)}, r"norm is \(77,\), the model has \(78,\)"),
        ({"wide": (3000, 1023)}, r"wide is \(3000, 1024\), the model has"),
    ],
    ids=["name", "rows", "columns"],
)
def test_another_model_is_refused(
    checkpoint: Path, sizes: dict[str, tuple[int, ...]], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        streamed(checkpoint, sizes)


def test_damage_is_found(checkpoint: Path) -> None:
    name = files.by_kind(checkpoint)[0][0]
    content = (checkpoint / name).read_bytes()
    place = len(content) // 2
    changed = bytes([content[place] ^ 1])
    try:
        (checkpoint / name).write_bytes(content[:place] + changed + content[place + 1 :])
        with pytest.raises(Damaged, match=f"{name} is damaged"):
            streamed(checkpoint, SIZES)
    finally:
        (checkpoint / name).write_bytes(content)


def test_a_file_that_another_thread_cannot_write_is_missed(tmp_path: Path) -> None:
    """torch starts a thread beside the first one, whose failures it passes over."""
    (tmp_path / "tokenizer.json").write_text("{}")
    main = threading.main_thread()

    def fill(out: Tensor, _first: int) -> None:
        if threading.current_thread() is not main:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        out.zero_()
        time.sleep(0.2)  # so that the other one begins

    saved = {f"master.{name}": Streamed(torch.Size(SIZES["wide"]), fill) for name in "ab"}
    state = TrainState.before_training(SHAPE, 0)
    with pytest.raises(RunError, match=r"the disk of .* is full"):
        write_tensors(saved, state, tmp_path / "tokenizer.json", tmp_path / "checkpoints")
    assert not list((tmp_path / "checkpoints").iterdir())
