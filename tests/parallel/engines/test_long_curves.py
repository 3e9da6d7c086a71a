"""What is promised of a curve: twenty steps within 1e-4, its first within 1e-6, under all axes.

Eight steps of every layout are compared more closely in each engine's test_parity.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.schema import EngineConfig, Precision
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.parity import Tolerance, compare
from tests import training
from tests.families import LLAMA
from tests.layouts import EXCHANGE, GATHER, RING, name
from tests.pool import RankPool
from tests.training import DEEPSPEED, MEGATRON, SHAPE, Curve

STEPS = 20
ALL_AXES = Layout(tensor=2, pipeline=2, data=2, micro_batch=1, zero=1)


def curve(
    ranks: RankPool, layout: Layout, config: EngineConfig, shape: ModelShape = SHAPE
) -> Curve:
    words = (layout, STEPS, Precision.float32, shape, config)
    return training.assemble(ranks.run(layout.world_size, training.train, *words))


@pytest.fixture(scope="module")
def one_rank(ranks: RankPool) -> Curve:
    found = curve(ranks, Layout(micro_batch=training.GLOBAL_BATCH), MEGATRON)
    assert found.losses[-1] < found.losses[0] - 0.4, "the model must learn"
    return found


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        (ALL_AXES, MEGATRON),
        (Layout(tensor=2, context=2, context_by=RING, pipeline=2, micro_batch=2), MEGATRON),
        (Layout(context=4, context_by=GATHER, data=2, micro_batch=2, zero=1), MEGATRON),
        (replace(ALL_AXES, sequence_parallel=True), DEEPSPEED),
        (Layout(context=2, context_by=EXCHANGE, pipeline=2, data=2, micro_batch=2), DEEPSPEED),
        (Layout(tensor=2, data=2, micro_batch=2, zero=3, sequence_parallel=True), DEEPSPEED),
    ],
    ids=lambda it: name(it) if isinstance(it, Layout) else str(it.name.value),
)
def test_twenty_steps(
    ranks: RankPool, one_rank: Curve, layout: Layout, config: EngineConfig
) -> None:
    assert_same(curve(ranks, layout, config), one_rank)


def test_twenty_steps_of_a_llama_with_grouped_heads(ranks: RankPool) -> None:
    expected = curve(ranks, Layout(micro_batch=training.GLOBAL_BATCH), MEGATRON, LLAMA)
    split = Layout(context=4, context_by=RING, micro_batch=4)
    assert_same(curve(ranks, split, MEGATRON, LLAMA), expected)


def assert_same(found: Curve, expected: Curve) -> None:
    comparison = compare(found.trace(), expected.trace(), Tolerance.of(Precision.float32))
    assert comparison.agrees, comparison
