"""Saved under one layout, gone on with under another: the next steps are those of one run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from parallel.checkpoint import io, manifest
from parallel.layout import Layout
from tests import training
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool
from tests.training import Curve

SAVED_UNDER = Layout(tensor=2, pipeline=2, micro_batch=2)
SAVED_AT, LAST = 4, 8
GOES_ON_UNDER = [
    Layout(micro_batch=4),
    Layout(tensor=4, micro_batch=2, sequence_parallel=True),
    Layout(pipeline=4, micro_batch=2),
    Layout(pipeline=2, stage_layers=(1, 3), micro_batch=2),
    Layout(pipeline=2, interleave=2, micro_batch=2),
    Layout(tensor=2, data=2, micro_batch=2),
    Layout(tensor=2, data=2, micro_batch=2, zero=1),
]


@pytest.fixture(scope="module")
def uninterrupted(ranks: RankPool) -> Curve:
    return training.assemble(ranks.run(SAVED_UNDER.world_size, training.train, SAVED_UNDER, LAST))


@pytest.fixture(scope="module")
def saved(ranks: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    job = (SAVED_UNDER, 1, SAVED_AT, str(folder), False)
    ranks.run(SAVED_UNDER.world_size, training.train_and_save, *job)
    return folder


def assert_goes_on(curve: Curve, expected: Curve) -> None:
    assert curve.losses[0] == pytest.approx(expected.losses[SAVED_AT], rel=1e-6)
    assert curve.losses == pytest.approx(expected.losses[SAVED_AT:], rel=1e-4)
    assert curve.grad_norms == pytest.approx(expected.grad_norms[SAVED_AT:], rel=1e-4)
    for key, weight in expected.weights.items():
        difference = (curve.weights[key] - weight).abs().max().item()
        assert difference < 1e-4, f"{key} differs by {difference}"


@pytest.mark.parametrize("layout", GOES_ON_UNDER, ids=name)
def test_goes_on_under_another_layout(
    ranks: RankPool, uninterrupted: Curve, saved: Path, tmp_path: Path, layout: Layout
) -> None:
    # Loaded from the folder of one run, saved into another's.
    (tmp_path / "checkpoints").symlink_to(saved)
    job = (layout, SAVED_AT + 1, LAST, str(saved), True)
    answers = ranks.run(layout.world_size, training.train_and_save, *job)
    assert_goes_on(training.assemble(answers), uninterrupted)
    newest = manifest.step_folder(saved, LAST)
    assert manifest.find(saved) == newest.resolve()
    # What this layout saved, one rank reads.
    state = manifest.TrainState.read(newest)
    assert (state.step, state.samples, state.adam_step) == (LAST, LAST * 8, LAST)
    manifest.discard(newest)
    assert manifest.find(saved).name == f"step_{SAVED_AT:08d}"


def test_zero_sharded_state_is_read_by_one_rank(
    ranks: RankPool, uninterrupted: Curve, tmp_path: Path
) -> None:
    sharded = Layout(pipeline=2, data=2, micro_batch=2, zero=1)
    ranks.run(4, training.train_and_save, sharded, 1, SAVED_AT, str(tmp_path), False)
    one = Layout(micro_batch=8)
    answers = ranks.run(1, training.train_and_save, one, SAVED_AT + 1, LAST, str(tmp_path), True)
    assert_goes_on(training.assemble(answers), uninterrupted)


def save_on_a_disk_that_turns_a_bit(layout: Layout, folder: str) -> None:
    """A job: the last rank's file changes between its writing and its reading back."""
    import torch

    from parallel.checkpoint import store
    from parallel.checkpoint.manifest import Digest

    def write(*args: Any) -> dict[str, Digest]:
        digests = io.write(*args)
        if torch.distributed.get_rank() == layout.world_size - 1:
            turn_a_bit(args[1] / max(digests, key=lambda name: digests[name]["bytes"]))
        return digests

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write", write)
        training.train_and_save(layout, SAVED_AT + 1, SAVED_AT + 1, folder, True)


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_reads_back_otherwise_is_not_a_checkpoint(
    ranks: RankPool, saved: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "copy", symlinks=True))
    layout = Layout(tensor=2, pipeline=2, micro_batch=2)
    with pytest.raises(AssertionError, match=r"__3_\d\.distcp reads back otherwise than it was"):
        ranks.run(4, save_on_a_disk_that_turns_a_bit, layout, str(copy))
    assert [path.name for path in copy.glob("step_*")] == [f"step_{SAVED_AT:08d}"]


def test_damage_is_found_on_every_rank(ranks: RankPool, saved: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "copy", symlinks=True))
    largest = max(copy.glob("step_*/*.distcp"), key=lambda path: path.stat().st_size)
    turn_a_bit(largest)
    layout = Layout(tensor=2, micro_batch=2)
    with pytest.raises(AssertionError, match=f"Damaged: checkpoint=.*{largest.name} is damaged"):
        ranks.run(2, training.train_and_save, layout, SAVED_AT + 1, LAST, str(copy), True)
