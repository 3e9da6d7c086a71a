"""Experts over ranks: the same losses, norms, weights and choices as on one rank.

For 20 steps by expert ranks alone and with each other axis, for 8 in all else.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.schema import ContextBy, EngineConfig, ExpertBy, Recompute
from configs.settings.network import Balance, RouterScore
from models.shape import ModelShape
from parallel.layout import Layout
from tests import routing
from tests.layouts import name
from tests.pool import RankPool
from tests.routing import MIXTURE, SHARED, Routed
from tests.training import DEEPSPEED, MEGATRON

STEPS, MORE = 20, 8
CLOSE = 1e-4
RING, GATHER = ContextBy.ring, ContextBy.gather
UNLOSSY = replace(  # biases balance instead of a loss, and experts take no more than their share
    MIXTURE,
    moe=replace(
        MIXTURE.moe,
        balance=Balance.none,
        z_loss=0.0,
        score=RouterScore.sigmoid,
        scale=1.5,
        bias_rate=1e-2,
        capacity=1.0,
    ),
)
TENSOR = Layout(tensor=2, sequence_parallel=True, micro_batch=4)
LONG = [
    Layout(data=2, expert=2, micro_batch=4),
    Layout(data=4, expert=4, micro_batch=2),
    Layout(data=4, expert=2, zero=1, micro_batch=2),
    replace(TENSOR, expert=2),
    replace(TENSOR, data=2, expert=4, micro_batch=2),
    Layout(pipeline=2, data=2, expert=2, micro_batch=2),
    Layout(context=2, context_by=RING, expert=2, micro_batch=4),
]
LAYOUTS = [
    Layout(data=2, expert=2, expert_by=ExpertBy.all_gather, micro_batch=2),
    Layout(data=2, expert=2, zero=1, micro_batch=2),
    TENSOR,
    replace(TENSOR, expert_tensor=2),
    replace(TENSOR, data=2, expert=2, expert_tensor=2, zero=1, micro_batch=2),
    replace(TENSOR, data=2, expert=2, expert_by=ExpertBy.all_gather, recompute=Recompute.full),
    Layout(pipeline=2, data=2, expert=2, interleave=2, micro_batch=2, zero=1),
    Layout(context=2, context_by=GATHER, data=2, expert=4, zero=1, micro_batch=2),
    replace(TENSOR, context=2, context_by=GATHER, expert=2),
]
OTHERS = [
    (shape, layout)
    for shape in (SHARED, UNLOSSY)
    for layout in (LONG[1], LONG[5], LAYOUTS[4], LAYOUTS[-1])
]
DEEPSPEEDS = [
    Layout(micro_batch=8),
    *(Layout(data=4, expert=2, micro_batch=2, zero=zero) for zero in (0, 1, 2)),
    replace(TENSOR, data=2, expert=4, micro_batch=2, zero=2),
    replace(TENSOR, data=2, expert=2, expert_tensor=2, micro_batch=2),
    Layout(context=2, context_by=RING, expert=2, micro_batch=4, zero=1),
]
NAMES = {MIXTURE: "mixture", SHARED: "shared", UNLOSSY: "unlossy"}


class OneRank:
    """A shape is trained on one rank when it is first asked for."""

    def __init__(self, ranks: RankPool) -> None:
        self._ranks = ranks
        self._known: dict[tuple[ModelShape, int], Routed] = {}

    def __getitem__(self, key: tuple[ModelShape, int]) -> Routed:
        if key not in self._known:
            layout, (shape, steps) = Layout(micro_batch=8), key
            answers = self._ranks.run(1, routing.train_routed, layout, steps, shape)
            self._known[key] = routing.routed(answers, layout)
        return self._known[key]


@pytest.fixture(scope="module")
def one_rank(ranks: RankPool) -> OneRank:
    return OneRank(ranks)


CASES = [
    *((MEGATRON, MIXTURE, layout) for layout in (*LONG, *LAYOUTS)),
    *((MEGATRON, *other) for other in OTHERS),
    *((DEEPSPEED, MIXTURE, layout) for layout in DEEPSPEEDS),
    (DEEPSPEED, SHARED, DEEPSPEEDS[4]),
    (DEEPSPEED, UNLOSSY, DEEPSPEEDS[6]),
]


@pytest.mark.parametrize(
    ("config", "shape", "layout"),
    CASES,
    ids=[f"{config.name}-{NAMES[shape]}-{name(layout)}" for config, shape, layout in CASES],
)
def test_trains_as_one_rank_does(
    ranks: RankPool,
    one_rank: OneRank,
    config: EngineConfig,
    shape: ModelShape,
    layout: Layout,
) -> None:
    steps = STEPS if config is MEGATRON and layout in LONG else MORE
    answers = ranks.run(layout.world_size, routing.train_routed, layout, steps, shape, config)
    split, whole = routing.routed(answers, layout), one_rank[shape, steps]
    assert split.curve.losses == pytest.approx(whole.curve.losses, rel=CLOSE)
    assert split.curve.grad_norms == pytest.approx(whole.curve.grad_norms, rel=CLOSE)
    for key, weight in whole.curve.weights.items():
        assert (split.curve.weights[key] - weight).abs().max().item() < CLOSE, key
    assert (split.chosen != whole.chosen).sum() == 0
    for mine, theirs in zip(split.routings, whole.routings, strict=True):
        assert mine.load == theirs.load
        for sums in ("balance_loss", "z_loss", "entropy", "dropped"):
            assert getattr(mine, sums) == pytest.approx(getattr(theirs, sums), rel=CLOSE)


def test_the_runs_test_what_they_should(one_rank: OneRank) -> None:
    for shape in NAMES:
        run = one_rank[shape, STEPS]
        assert run.curve.losses[-1] < run.curve.losses[0] - 0.1, "the model must learn"
        sent = run.chosen.sum(-1)
        if shape is UNLOSSY:
            assert sent.max() == 2
            assert sent.min() < 2, "some choices must be dropped"
            assert all(max(each.dropped) > 0 for each in run.routings)
        else:
            assert (sent == 2).all(), "each token goes to two experts"
        assert run.chosen.flatten(0, 3).any(0).all(), "every expert must have been chosen"


def test_biases_even_the_loads_out(ranks: RankPool) -> None:
    """Without dropping, and much longer steps: the busiest expert comes near its share."""
    layout, steps = Layout(micro_batch=8), 40
    moe = replace(UNLOSSY.moe, capacity=None)
    busiest = {}
    for rate in (0.0, 2e-3):
        shape = replace(UNLOSSY, moe=replace(moe, bias_rate=rate))
        answers = ranks.run(1, routing.train_routed, layout, steps, shape)
        routings = routing.routed(answers, layout).routings[-10:]
        busiest[rate] = sum(each.largest_load for each in routings) / len(routings)
    assert busiest[2e-3] < busiest[0.0] - 0.1, busiest
