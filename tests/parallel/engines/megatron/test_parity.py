"""One seed, one curve: every layout must train as one rank does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.schema import Precision
from parallel.layout import Layout
from parallel.parity import Tolerance, compare
from tests import layouts, trained, training
from tests.layouts import name
from tests.pool import RankPool
from tests.trained import TrainedCases
from tests.training import MEGATRON, Curve

__all__ = ["name"]  # which other tests take from here

# Measured: 3.2e-6 of a gradient norm, 1.1e-5 of a weight, whose steps are of 3e-3, and 6.3e-5 of
# the one weight whose gradients are as small as their rounding: Adam divides them by their size.
SUMS_IN_ANOTHER_ORDER = Tolerance(first_step=1e-6, steps=1e-5, tensors=1e-3)
WEIGHTS = 1e-4


@pytest.fixture(scope="module")
def one_rank(cases: TrainedCases) -> Curve:
    layout = Layout(micro_batch=training.GLOBAL_BATCH)
    curve = cases[MEGATRON, layout, Precision.float32].curve
    assert min(curve.grad_norms) > training.ADAM.clip, "the clip must bite at every step"
    assert curve.losses[-1] < curve.losses[0] - 0.1, "the model must learn"
    return curve


def assert_same(curve: Curve, expected: Curve) -> None:
    comparison = compare(curve.trace(), expected.trace(), SUMS_IN_ANOTHER_ORDER)
    assert comparison.agrees, comparison
    for key, weight in expected.weights.items():
        difference = (curve.weights[key] - weight).abs().max().item()
        assert difference < WEIGHTS, f"{key} differs by {difference}"


def test_four_chunks_on_each_of_two_stages(ranks: RankPool) -> None:
    deep = replace(training.SHAPE, layers=8)  # a layer a chunk, four layers a stage
    one, split = Layout(micro_batch=4), Layout(pipeline=2, interleave=4, micro_batch=2)
    expected = training.assemble(
        ranks.run(1, training.train, one, trained.STEPS, Precision.float32, deep)
    )
    for micro_batch in (2, 4):
        layout = replace(split, micro_batch=micro_batch)
        answers = ranks.run(2, training.train, layout, trained.STEPS, Precision.float32, deep)
        assert_same(training.assemble(answers), expected)


@pytest.mark.parametrize("layout", layouts.MEGATRON, ids=name)
def test_trains_as_one_rank_does(cases: TrainedCases, one_rank: Curve, layout: Layout) -> None:
    assert_same(cases[MEGATRON, layout, Precision.float32].curve, one_rank)


@pytest.mark.parametrize("layout", layouts.MEGATRON_RECOMPUTE, ids=name)
def test_recompute_changes_nothing(cases: TrainedCases, one_rank: Curve, layout: Layout) -> None:
    assert_same(cases[MEGATRON, layout, Precision.float32].curve, one_rank)


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp16])
@pytest.mark.parametrize("layout", layouts.MEGATRON_HALF, ids=name)
def test_half_precision_stays_near_float32(
    cases: TrainedCases, one_rank: Curve, layout: Layout, precision: Precision
) -> None:
    curve = cases[MEGATRON, layout, precision].curve
    assert curve.losses == pytest.approx(one_rank.losses, rel=2e-2)
    assert curve.grad_norms[:5] == pytest.approx(one_rank.grad_norms[:5], rel=5e-2)
