"""The trace is right: what it says of a rank is what a real rank counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from configs.errors import InputError
from configs.schema import DeviceName, Precision
from parallel.layout import Layout
from parallel.planner.trace.memory_tracker import Category
from parallel.planner.trace.trace import RankTrace, trace, traced_ranks
from tests import training
from tests.parallel.planner.traced import stage_ranks, tiny_run, trace_all, trace_here
from tests.pool import RankPool
from tests.trained import CASES, Case, TrainedCases, case_name
from tests.training import DEEPSPEED, MEGATRON, SHAPE


@pytest.fixture(scope="module")
def traces(ranks: RankPool) -> dict[tuple[Case, int], RankTrace]:
    keys = [(case, rank) for case in CASES for rank in stage_ranks(case[1])]
    asked = [(tiny_run(case), case[1], rank) for case, rank in keys]
    return dict(zip(keys, trace_all(ranks, asked, DeviceName.cpu), strict=True))


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_a_trace_counts_what_a_rank_counts(
    cases: TrainedCases, traces: dict[tuple[Case, int], RankTrace], case: Case
) -> None:
    layout = case.layout
    per_stage = layout.tensor * layout.copies
    for first in stage_ranks(layout):
        said = traces[case, first]
        for rank in range(first, first + per_stage):
            parameters, traffic = cases[case].counted[rank]
            assert said.parameters == parameters
            # Context ranks differ in how much of a window their neighbours need.
            if layout.coordinates(rank).context == 0:
                assert said.traffic == traffic


def test_the_peak_is_made_up_of_its_parts(traces: dict[tuple[Case, int], RankTrace]) -> None:
    for said in traces.values():
        assert sum(said.at_peak.values()) == said.peak_bytes > said.model_bytes


def test_the_model_is_what_its_numbers_take(traces: dict[tuple[Case, int], RankTrace]) -> None:
    said = traces[Case(MEGATRON, Layout(micro_batch=8), Precision.float32), 0]
    numbers = said.parameters * 4
    # Norms and biases, shorter than a block, take a whole one.
    assert said.at_peak[Category.parameters] == pytest.approx(numbers, rel=0.05)
    assert said.at_peak[Category.gradients] == pytest.approx(numbers, rel=0.05)
    assert said.at_peak[Category.optimizer] == pytest.approx(2 * numbers, rel=0.2)  # and steps


def test_a_world_of_thousands_is_one_process(ranks: RankPool) -> None:
    layout = Layout(tensor=4, pipeline=4, data=192, zero=1, sequence_parallel=True, micro_batch=1)
    last = traced_ranks(layout)[-1]
    run = tiny_run(Case(MEGATRON, layout, Precision.bf16), global_batch=8 * layout.data)
    (said,) = trace_all(ranks, [(run, layout, last)], DeviceName.cuda)
    assert layout.world_size == 3072
    assert (said.rank, said.stage) == (last, 3)


def before_and_after(case: Case) -> Any:
    """A job: two runs on this rank, a trace between them."""
    _, layout, precision, _ = case
    with training.engine(layout, precision, SHAPE, case[0]) as engine:
        before = training.take_steps(engine, layout, 1, 2)
    trace_here([(tiny_run(case), layout, 0)], DeviceName.cuda)
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    with training.engine(layout, precision, SHAPE, case[0]) as engine:
        return before, training.take_steps(engine, layout, 1, 2)


@pytest.mark.parametrize("config", [MEGATRON, DEEPSPEED], ids=lambda config: config.name)
def test_a_trace_leaves_nothing_behind(ranks: RankPool, config: Any) -> None:
    case = Case(config, Layout(micro_batch=4), Precision.float32)
    ((before, after),) = ranks.run(1, before_and_after, case)
    assert before == after


def test_one_rank_of_each_kind_of_stage() -> None:
    assert traced_ranks(Layout()) == [0]
    assert traced_ranks(Layout(tensor=2, data=4, pipeline=2)) == [0, 8]
    assert traced_ranks(Layout(tensor=2, data=4, pipeline=16)) == [0, 8, 120]


def test_an_offloaded_optimizer_is_refused() -> None:
    offloaded = replace(DEEPSPEED, offload_optimizer=True)
    layout = Layout(micro_batch=4, zero=1)
    with pytest.raises(InputError, match=r"engine\.offload_optimizer"):
        trace(tiny_run(Case(offloaded, layout, Precision.bf16)), layout, 0, device=DeviceName.cuda)
