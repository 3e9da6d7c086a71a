"""Traffic of experts: what is planned is what real ranks count, exchanges summed over ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.schema import ContextBy, DeviceName, ExpertBy, Precision, Recompute
from parallel.layout import Layout
from parallel.parameter_count import rank_parameters
from parallel.planner.communication.formulas import step_traffic
from parallel.planner.communication.groups import extents, members
from parallel.planner.communication.traffic import CollectiveKind, Group, Traffic
from parallel.planner.trace.trace import traced_ranks
from tests import training
from tests.layouts import name
from tests.parallel.planner.traced import tiny_run, trace_all
from tests.pool import RankPool
from tests.routing import MIXTURE, SHARED
from tests.trained import Case
from tests.training import DEEPSPEED, GLOBAL_BATCH, MEGATRON

GATHER = ContextBy.gather
LIMITED = replace(MIXTURE, moe=replace(MIXTURE.moe, capacity=1.0))
TENSOR = Layout(tensor=2, sequence_parallel=True, micro_batch=4)
LAYOUTS = [
    Layout(micro_batch=4),
    Layout(data=2, micro_batch=2),
    Layout(data=2, expert=2, micro_batch=4),
    Layout(data=4, expert=2, zero=1, micro_batch=1),
    Layout(data=2, expert=2, expert_by=ExpertBy.all_gather, micro_batch=2),
    TENSOR,
    replace(TENSOR, expert=2),
    replace(TENSOR, expert_tensor=2),
    replace(TENSOR, data=2, expert=4, micro_batch=2),
    replace(TENSOR, data=2, expert=2, micro_batch=1),
    replace(TENSOR, data=2, expert=2, expert_tensor=2, zero=1, micro_batch=2),
    replace(TENSOR, data=2, expert=2, expert_by=ExpertBy.all_gather, recompute=Recompute.full),
    Layout(pipeline=2, data=2, expert=2, micro_batch=2),
    Layout(pipeline=2, data=2, expert=2, interleave=2, micro_batch=2, zero=1),
    Layout(context=2, context_by=GATHER, expert=2, micro_batch=4),
    replace(TENSOR, context=2, context_by=GATHER, expert=2),
]
DEEPSPEEDS = [
    Layout(micro_batch=8),
    *(Layout(data=4, expert=2, micro_batch=1, zero=zero) for zero in (0, 1, 2)),
    replace(TENSOR, data=2, expert=4, micro_batch=2, zero=2),
    replace(TENSOR, data=2, expert=2, expert_tensor=2, micro_batch=2),
    Layout(context=2, context_by=GATHER, expert=2, micro_batch=4, zero=1),
]
FLOAT32, BF16 = Precision.float32, Precision.bf16
CASES = [
    *(Case(MEGATRON, layout, FLOAT32, MIXTURE) for layout in LAYOUTS),
    *(Case(MEGATRON, LAYOUTS[at], FLOAT32, SHARED) for at in (3, 8, 12)),
    *(Case(MEGATRON, LAYOUTS[at], BF16, MIXTURE) for at in (3, 11)),
    Case(MEGATRON, LAYOUTS[8], FLOAT32, LIMITED),
    *(Case(DEEPSPEED, layout, FLOAT32, MIXTURE) for layout in DEEPSPEEDS),
    *(Case(DEEPSPEED, DEEPSPEEDS[at], BF16, MIXTURE) for at in (2, 3)),
    Case(DEEPSPEED, DEEPSPEEDS[3], FLOAT32, SHARED),
]


def count(case: Case) -> Any:
    """A job: how many numbers a rank holds, and its traffic in the second step."""
    from parallel.planner.trace.collective_counter import counting

    config, layout, precision, shape = case
    with training.engine(layout, precision, shape, config) as engine:
        training.take_steps(engine, layout, 1, 1)
        with counting(layout) as counts:
            training.take_steps(engine, layout, 2, 2)
        return sum(part.shape.numel() for part in engine.parameters()), counts.traffic()


def planned(case: Case, rank: int, device: DeviceName = DeviceName.cpu) -> list[Traffic]:
    config, layout, precision, shape = case
    at = layout.coordinates(rank)
    return step_traffic(
        shape,
        layout,
        config.name,
        stage=at.pipeline,
        precision=precision,
        micro_batches=layout.micro_batches(GLOBAL_BATCH),
        device=device,
        context_rank=at.context,
    )


def is_exchange(traffic: Traffic) -> bool:
    return traffic.kind is CollectiveKind.all_to_all


def case_name(case: Case) -> str:
    of = {MIXTURE: "mixture", SHARED: "shared", LIMITED: "limited"}[case.shape]
    return f"{of}-{case.config.name}-{name(case.layout)}-{case.precision}"


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_a_formula_says_what_ranks_count(ranks: RankPool, case: Case) -> None:
    _, layout, _, shape = case
    answers = ranks.run(layout.world_size, count, case)
    sums = [0, 0]
    for rank, (numbers, counted) in enumerate(answers):
        said = planned(case, rank)
        assert numbers == rank_parameters(shape, layout, layout.coordinates(rank).pipeline)
        assert [replace(each, bytes=0) for each in said] == [
            replace(each, bytes=0) for each in counted
        ], f"rank {rank}"
        for mine, its in zip(said, counted, strict=True):
            if not is_exchange(mine):
                assert mine == its, f"rank {rank}"
        for which, traffic in enumerate((said, counted)):
            sums[which] += sum(each.bytes for each in traffic if is_exchange(each))
    if shape.moe.capacity is None:
        assert sums[0] == sums[1], "the even shares add up to what is sent"
    else:
        assert sums[1] < sums[0], "what experts do not take is not sent"
    # gloo exchanges what ranks that share an expert gather, too.
    exchanges = layout.expert * layout.expert_tensor > 1 and layout.expert_by is None
    assert (sums[1] > 0) is exchanges


def test_a_formula_says_what_a_trace_counts(ranks: RankPool) -> None:
    """Of CUDA too, where gradients are reduced in buckets and nothing is exchanged by gloo."""
    cases = [
        *(Case(MEGATRON, LAYOUTS[at], BF16, MIXTURE) for at in (3, 9, 10, 11)),
        Case(MEGATRON, LAYOUTS[13], BF16, SHARED),
        *(Case(DEEPSPEED, DEEPSPEEDS[at], BF16, MIXTURE) for at in (2, 3)),
    ]
    keys = [(case, rank) for case in cases for rank in traced_ranks(case.layout)]
    asked = [(tiny_run(case), case.layout, rank) for case, rank in keys]
    for (case, rank), trace in zip(keys, trace_all(ranks, asked, DeviceName.cuda), strict=True):
        assert planned(case, rank, DeviceName.cuda) == trace.traffic, case_name(case)


def test_uneven_choices_are_counted(ranks: RankPool) -> None:
    """That sums are needed: ranks do not send their even shares."""
    layout = LAYOUTS[2]
    answers = ranks.run(2, count, Case(MEGATRON, layout, FLOAT32, MIXTURE))
    sent = [[each.bytes for each in counted if is_exchange(each)] for _, counted in answers]
    assert sent[0] != sent[1]


FOLDED = [
    Layout(tensor=tensor, context=context, data=data, pipeline=2, expert=e, expert_tensor=t)
    for tensor in (1, 2, 4)
    for context in (1, 2)
    for data in (1, 3, 4)
    for e in (1, 2, 3, 4, 8)
    for t in (1, 2)
    if tensor * context * data % (e * t) == 0
]


@pytest.mark.parametrize("layout", FOLDED, ids=str)
def test_extents_are_equal_where_groups_are(layout: Layout) -> None:
    """Also of groups that are no box of tensor, context and data ranks."""
    for stage in (0, 1):
        rank = stage * layout.stage_ranks
        listed, described = members(layout, rank), extents(layout, stage)
        assert list(listed) == list(described) == list(Group)
        for one in Group:
            for other in Group:
                if Group.embedding in (one, other):
                    continue
                same = listed[one] == listed[other]
                assert (described[one] == described[other]) is same, (one, other)


def test_a_group_of_experts_is_the_layouts() -> None:
    layout = Layout(tensor=2, data=4, pipeline=2, expert=4, expert_tensor=2)
    for axes, group in (
        (("expert",), Group.expert),
        (("expert_tensor", "expert"), Group.tensor_expert),
        (("expert_data",), Group.expert_data),
    ):
        for ranks in layout.expert_groups(*axes):
            for rank in ranks:
                assert members(layout, rank)[group] == set(ranks)
