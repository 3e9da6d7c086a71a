"""DeepSpeed trains as one rank of Megatron does, under every layout that it can run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.schema import Precision
from parallel.layout import Layout
from parallel.parity import Tolerance, Trace, compare
from tests import layouts, trained, training
from tests.layouts import name
from tests.parallel.engines.megatron.test_parity import assert_same, one_rank
from tests.pool import RankPool
from tests.trained import TrainedCases
from tests.training import DEEPSPEED, SHAPE, Curve

__all__ = ["one_rank"]  # the fixture of the other engine's tests

OFFLOAD = replace(DEEPSPEED, offload_optimizer=True)


@pytest.mark.parametrize("layout", layouts.DEEPSPEED, ids=name)
def test_trains_as_one_rank_of_megatron(
    cases: TrainedCases, one_rank: Curve, layout: Layout
) -> None:
    assert_same(cases[DEEPSPEED, layout, Precision.float32].curve, one_rank)


@pytest.mark.parametrize("layout", layouts.DEEPSPEED_RECOMPUTE, ids=name)
def test_recompute_changes_nothing(cases: TrainedCases, one_rank: Curve, layout: Layout) -> None:
    assert_same(cases[DEEPSPEED, layout, Precision.float32].curve, one_rank)


def offloaded(layout: Layout) -> Any:
    """A job: as `training.train`, and whose Adam it was."""
    with training.engine(layout, Precision.float32, SHAPE, OFFLOAD) as engine:
        steps = training.take_steps(engine, layout, 1, trained.STEPS)
        return steps, training.weights_here(engine), type(engine.adam).__module__, engine.notices


@pytest.mark.parametrize(
    "layout", [Layout(micro_batch=4, zero=1), Layout(micro_batch=2, data=2, zero=3)], ids=name
)
def test_an_offloaded_optimizer_is_the_same(
    ranks: RankPool, one_rank: Curve, layout: Layout
) -> None:
    answers = ranks.run(layout.world_size, offloaded, layout)
    assert_same(training.assemble([answer[:2] for answer in answers]), one_rank)
    for _, _, made_by, notices in answers:
        # Where there is no compiler, torch's takes over and says so.
        assert made_by.startswith("torch." if notices else "deepspeed."), notices


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp16])
@pytest.mark.parametrize("layout", layouts.DEEPSPEED_HALF, ids=name)
def test_half_precision_stays_near_float32(
    cases: TrainedCases, one_rank: Curve, layout: Layout, precision: Precision
) -> None:
    curve = cases[DEEPSPEED, layout, precision].curve
    expected = Trace(losses=one_rank.losses, grad_norms=one_rank.grad_norms)
    comparison = compare(curve.trace(), expected, Tolerance.of(precision))
    assert comparison.agrees, comparison
