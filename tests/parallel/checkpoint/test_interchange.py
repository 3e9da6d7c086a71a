"""A run moves between the engines: each reads what the other saved, moments and all."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.schema import EngineConfig, Precision
from parallel.checkpoint import manifest
from parallel.layout import Layout
from parallel.parity import Tolerance, compare
from tests import training
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool
from tests.training import DEEPSPEED, MEGATRON, Curve

SAVED_UNDER = Layout(tensor=2, pipeline=2, micro_batch=2)
LAST = 8
DEEPSPEED_LAYOUTS = [
    Layout(data=2, micro_batch=2, zero=1),
    Layout(data=2, micro_batch=2, zero=3),
    Layout(tensor=2, data=2, micro_batch=2, zero=2),
]


@pytest.fixture(scope="module")
def uninterrupted(ranks: RankPool) -> Curve:
    return training.assemble(ranks.run(SAVED_UNDER.world_size, training.train, SAVED_UNDER, LAST))


def go_on(
    ranks: RankPool, folder: Path, engine: EngineConfig, layout: Layout, first: int, last: int
) -> Curve:
    job = (layout, first, last, str(folder), first > 1, engine)
    return training.assemble(ranks.run(layout.world_size, training.train_and_save, *job))


def assert_part_of(curve: Curve, whole: Curve, first: int) -> None:
    last = first + len(curve.losses) - 1
    assert curve.losses == pytest.approx(whole.losses[first - 1 : last], rel=1e-4)
    assert curve.losses[0] == pytest.approx(whole.losses[first - 1], rel=1e-6)
    assert curve.grad_norms == pytest.approx(whole.grad_norms[first - 1 : last], rel=1e-4)


def test_megatron_to_deepspeed_and_back(
    ranks: RankPool, uninterrupted: Curve, tmp_path: Path
) -> None:
    go_on(ranks, tmp_path, MEGATRON, SAVED_UNDER, 1, 3)
    to_6 = go_on(ranks, tmp_path, DEEPSPEED, Layout(pipeline=4, micro_batch=2), 4, 6)
    assert_part_of(to_6, uninterrupted, 4)
    interleaved = Layout(pipeline=2, interleave=2, micro_batch=2)
    to_8 = go_on(ranks, tmp_path, MEGATRON, interleaved, 7, LAST)
    assert_part_of(to_8, uninterrupted, 7)
    final = compare(
        Curve(uninterrupted.losses, uninterrupted.grad_norms, to_8.weights).trace(),
        uninterrupted.trace(),
        Tolerance.of(Precision.float32),
    )
    assert final.agrees, final
    state = manifest.TrainState.read(manifest.find(tmp_path))
    assert (state.step, state.adam_step) == (LAST, LAST)


@pytest.mark.parametrize("layout", DEEPSPEED_LAYOUTS, ids=name)
def test_every_zero_stage_reads_and_writes_it(
    ranks: RankPool, uninterrupted: Curve, tmp_path: Path, layout: Layout
) -> None:
    go_on(ranks, tmp_path, MEGATRON, SAVED_UNDER, 1, 3)
    assert_part_of(go_on(ranks, tmp_path, DEEPSPEED, layout, 4, 5), uninterrupted, 4)
    one = Layout(micro_batch=4)
    assert_part_of(go_on(ranks, tmp_path, MEGATRON, one, 6, 7), uninterrupted, 6)


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp16])
def test_half_precision_keeps_its_masters_and_scale(
    ranks: RankPool, tmp_path: Path, precision: Precision
) -> None:
    layout = Layout(data=2, micro_batch=2, zero=1)

    def steps(first: int, last: int, engine: EngineConfig, folder: str) -> Curve:
        job = (layout, first, last, str(tmp_path / folder), first > 1, engine, precision)
        return training.assemble(ranks.run(2, training.train_and_save, *job))

    for engine, other in ((MEGATRON, DEEPSPEED), (DEEPSPEED, MEGATRON)):
        steps(1, 3, engine, engine.name)
        saved = manifest.TrainState.read(manifest.find(tmp_path / engine.name))
        moved = steps(4, 5, other, engine.name)
        back = manifest.TrainState.read(manifest.find(tmp_path / engine.name))
        assert back.adam_step == 5
        assert saved.scaler.keys() == back.scaler.keys()
        if precision is Precision.fp16:
            assert saved.scaler["growth_tracker"] == 3
            assert back.scaler["growth_tracker"] == 5
        straight = steps(1, 5, engine, f"{engine.name}-straight")
        assert moved.losses == pytest.approx(straight.losses[3:], rel=1e-3)
        assert moved.grad_norms == pytest.approx(straight.grad_norms[3:], rel=2e-2)
