"""Plans of models with experts: what they hold, how long they take, and what they say of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.schema import DeviceName, ExpertBy, Recompute
from models.flops import step_flops
from parallel.layout import Layout
from parallel.parameter_count import Numbers, rank_numbers, rank_parameters
from parallel.planner.memory.stages import stage_memories
from parallel.planner.plan import Plan
from parallel.planner.report.as_json import answer
from parallel.rules import allowed
from tests.routing import SHARED
from tests.runs import run_of

ON = "cluster=dgx_h100 cluster.nodes=32 precision=bf16 optimizer.ramp_tokens=0"
LARGE = Layout(
    tensor=4, pipeline=2, data=32, expert=32, zero=1, sequence_parallel=True, micro_batch=1
)


def plan_of(layout: Layout, more: str = "model=qwen3_235b_a22b") -> Plan:
    return Plan.of(run_of(f"{ON} {more}"), layout, DeviceName.cuda)


def test_a_plan_of_a_large_mixture_fits() -> None:
    plan = plan_of(LARGE)
    assert allowed(plan.run, LARGE, ranks=256, device="cuda")
    assert plan.fits
    assert 0.05 < plan.mfu < 0.6


@pytest.mark.parametrize(
    ("model", "total", "active"),
    [  # of the models' cards and papers, in billions
        ("mixtral_8x7b", 46.7, 12.9),
        ("qwen3_30b_a3b", 30.5, 3.3),
        ("qwen3_235b_a22b", 235.1, 22.2),
        ("olmoe_7b", 6.9, 1.3),
    ],
)
def test_json_has_published_counts(model: str, total: float, active: float) -> None:
    layout = Layout(data=8, micro_batch=1)
    parameters = answer(plan_of(layout, f"model={model}"))["parameters"]
    assert parameters["total"] / 1e9 == pytest.approx(total, abs=0.05)
    assert parameters["active"] / 1e9 == pytest.approx(active, abs=0.06)


def test_a_dense_models_numbers_are_all_active() -> None:
    parameters = answer(plan_of(Layout(data=4), "model=gpt3_125m"))["parameters"]
    assert parameters["active"] == parameters["total"]


@pytest.mark.parametrize("interleave", [1, 2])
def test_ranks_hold_their_experts_and_all_else(interleave: int) -> None:
    """The first layer is dense: stages differ."""
    whole, split = Layout(), Layout(pipeline=2, data=4, expert=4, interleave=interleave)
    alone = rank_numbers(SHARED, whole, 0)
    rows = SHARED.hidden * SHARED.padded_vocab()
    assert alone.total == SHARED.parameters + rows - SHARED.hidden * SHARED.vocab
    stages = [rank_numbers(SHARED, split, stage) for stage in (0, 1)]
    assert 4 * sum(stage.experts for stage in stages) == alone.experts
    assert stages[0].experts < stages[1].experts
    copied = rows if SHARED.tied else 0
    assert sum(stage.shared for stage in stages) == alone.shared + copied
    for stage, numbers in enumerate(stages):
        assert rank_parameters(SHARED, split, stage) == numbers.total


def test_zero_shards_experts_over_their_copies_alone() -> None:
    """12 bytes of each number: its float32 copy and two moments."""
    few = plan_of(LARGE)
    for stage, memory in enumerate(few.memories):
        numbers = rank_numbers(few.shape, LARGE, stage)
        assert LARGE.copies == 32
        assert LARGE.expert_copies == 4
        assert memory.optimizer == 12 * numbers.shared / 32 + 12 * numbers.experts / 4


def test_an_imbalance_costs_memory_and_time() -> None:
    even, uneven = (
        plan_of(LARGE, f"model=qwen3_235b_a22b plan.imbalance={ratio}") for ratio in (1.0, 2.0)
    )
    assert uneven.time.seconds > even.time.seconds
    assert uneven.time.experts > even.time.experts
    first, second = (stage_memories(plan.job)[0].activations for plan in (even, uneven))
    shape, tokens = even.shape, even.job.routed_tokens
    # Of a row: what an expert reads, and its activation's input and output, in two bytes each.
    row = 2 * (shape.hidden + 3 * shape.expert_feed_forward)
    in_flight, layers = 2, 47
    more = in_flight * layers * tokens * shape.moe.top_k * row
    assert second - first == pytest.approx(more, rel=1e-9)


def test_capacity_bounds_the_busiest() -> None:
    plan = plan_of(LARGE, "model=qwen3_235b_a22b plan.imbalance=3 model.moe.capacity=1.25")
    assert plan.job.busiest == 1.25


def test_flops_are_those_of_the_experts_that_a_token_is_sent_to() -> None:
    plan = plan_of(LARGE)
    of_all = replace(plan.shape, moe=replace(plan.shape.moe, top_k=128))
    assert plan.flops_per_step == step_flops(plan.shape, 1024)
    assert step_flops(of_all, 1024) > 5 * plan.flops_per_step


def test_an_exchange_between_nodes_takes_longer_than_within() -> None:
    """As much is sent whatever the ranks; each expert then has as many rows."""
    layout = replace(LARGE, tensor=1, data=128, sequence_parallel=False)
    inside, outside = (plan_of(replace(layout, expert=size)) for size in (8, 64))
    assert outside.time.experts > 3 * inside.time.experts
    assert "network" in {link_of_exchange(outside)}
    assert link_of_exchange(inside) == "node"


def link_of_exchange(plan: Plan) -> str:
    (link,) = {each["link"] for each in answer(plan)["collectives"] if each["kind"] == "all_to_all"}
    return str(link)


def test_all_tokens_are_more_than_those_of_its_experts() -> None:
    """At 8 ranks and 2 experts of a token."""
    layout = Layout(data=64, expert=8, micro_batch=1)
    sent, gathered = (
        plan_of(replace(layout, expert_by=way), "model=mixtral_8x7b") for way in ExpertBy
    )
    assert gathered.time.experts > sent.time.experts


def test_recomputation_brings_tokens_to_experts_again() -> None:
    once, twice = (
        plan_of(replace(LARGE, recompute=each)) for each in (Recompute.none, Recompute.full)
    )
    assert once.time.experts < twice.time.experts < 2 * once.time.experts


def test_numbers_add_up() -> None:
    numbers = Numbers(100, 40)
    assert numbers.total == 140
    assert numbers.times(2).minus(Numbers(1, 2)) == Numbers(199, 78)
    assert numbers.shard(Layout(data=4, expert=2)) == 100 / 4 + 40 / 2
