"""The search: what it finds is valid, fits, and is no worse than what brute force finds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest

from configs.schema import DeviceName, Run, Schedule
from parallel.layout import Layout
from parallel.planner.candidates import RECOMPUTES, candidates, uneven
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.job import Job
from parallel.planner.memory.stages import stage_memories
from parallel.planner.search import (
    KEPT,
    PLAYED,
    Candidate,
    Found,
    add_to_front,
    every_engine,
    fits_somewhere,
    search,
)
from parallel.planner.timing.step import Step
from parallel.rules import allowed
from tests.runs import run_of

SMALL = "model=gpt3_1.3b cluster=dgx_a100 precision=bf16 optimizer.ramp_tokens=0"
LARGE = "model=gpt3_175b cluster=dgx_a100 precision=bf16 optimizer.ramp_tokens=0"


def found(run: Run, ranks: int) -> Found:
    machine = machine_of(run.cluster)
    return search(run, ranks, DeviceName.cuda, machine, calibrated("phalanx", machine.gpu))


def slowly(run: Run, ranks: int) -> Found:
    """By asking every rule of every layout, and for its plan's time and memory, one by one."""
    machine = machine_of(run.cluster)
    calibration = calibrated("phalanx", machine.gpu)
    limit = machine.memory_bytes * (1 - run.plan.margin)
    tried, every = 0, []
    for engine in every_engine():
        its = replace(run, engine=engine)
        for layout in candidates(its, ranks, machine.link_gpus):
            tried += 1
            if allowed(its, layout, ranks=ranks, device="cuda"):
                job = Job.of(its, layout)
                memory = max(each.total for each in stage_memories(job, calibration.overheads))
                seconds = Step(job, machine, calibration.constants).seconds_estimate()
                every.append(Candidate(layout, seconds, memory, engine))
    fitting = sorted((each for each in every if each.fits(limit)), key=lambda each: each.seconds)
    front: list[Candidate] = []
    for each in fitting:
        add_to_front(front, each)
    return Found(
        limit=limit,
        tried=tried,
        valid=len(every),
        ranked=fitting,
        leanest=min(every, key=lambda each: each.memory, default=None),
        front=front[::-1],
    )


@pytest.mark.parametrize(
    ("settings", "ranks"),
    [
        ("model=llama3_8b cluster=dgx_h100 precision=bf16 train.global_batch=16", 8),
        ("model=gpt3_2.7b cluster=dgx_a100 precision=bf16 optimizer.ramp_tokens=0", 16),
        (
            "model=llama3_1b cluster=dgx_h100 precision=bf16 layout.context=4 model.context=8192 "
            "train.global_batch=24 optimizer.ramp_tokens=0",
            24,
        ),
        ("model=olmoe_7b cluster=dgx_h100 precision=bf16 train.global_batch=32", 16),
        (
            "model=mixtral_8x7b cluster=dgx_h100 precision=bf16 model.moe.dense_layers=3 "
            "train.global_batch=8 model.context=4096",
            24,
        ),
    ],
)
def test_what_is_found_is_what_looking_at_everything_finds(settings: str, ranks: int) -> None:
    run = run_of(f"{settings} cluster.nodes={ranks // 8} optimizer.ramp_tokens=0")
    machine = machine_of(run.cluster)
    calibration = calibrated("phalanx", machine.gpu)
    quick = search(run, ranks, DeviceName.cuda, machine, calibration, every_engine())
    slow = slowly(run, ranks)
    assert (quick.tried, quick.valid, quick.limit) == (slow.tried, slow.valid, slow.limit)
    if not slow.ranked:
        assert not quick.ranked
        assert quick.leanest is not None
        assert slow.leanest is not None
        assert quick.leanest.memory == pytest.approx(slow.leanest.memory, rel=1e-12)
        return
    kept = slow.ranked[: len(quick.ranked)]
    assert len(quick.ranked) == min(len(slow.ranked), KEPT)
    theirs = {(each.engine.name, each.layout): each for each in slow.ranked}
    estimates = []
    for number, each in enumerate(quick.ranked):
        other = theirs[each.engine.name, each.layout]
        assert each.memory == pytest.approx(other.memory, rel=1e-12)
        assert number < PLAYED or each.seconds == pytest.approx(other.seconds, rel=1e-12)
        estimates.append(other.seconds)
    assert sorted(estimates) == pytest.approx([each.seconds for each in kept], rel=1e-12)
    assert max(estimates[:PLAYED]) == pytest.approx(kept[:PLAYED][-1].seconds, rel=1e-12)
    assert [each.memory for each in quick.front] == pytest.approx(
        [each.memory for each in slow.front], rel=1e-12
    )
    assert [each.seconds for each in quick.front] == pytest.approx(
        [each.seconds for each in slow.front], rel=1e-12
    )


def test_uneven_stages_are_those_of_llama() -> None:
    """126 layers on 16 stages, the first and the last with one fewer (Llama 3 Herd, 3.3.2)."""
    llama = (7, *[8] * 14, 7)
    assert llama in uneven(126, 16)
    for layers, stages in ((126, 16), (94, 8), (32, 4), (32, 32), (5, 2)):
        for sizes in uneven(layers, stages):
            assert (sum(sizes), len(sizes)) == (layers, stages)
            assert min(sizes) >= 1
            assert sizes[-1] <= min(sizes[:-1])


def test_the_best_of_both_engines_is_that_of_either() -> None:
    run = run_of(SMALL)
    machine = machine_of(run.cluster)
    calibration = calibrated("phalanx", machine.gpu)
    args = (run, 8, DeviceName.cuda, machine, calibration)
    each = [search(*args, [engine]) for engine in every_engine()]
    both = search(*args, every_engine())
    assert both.valid == sum(one.valid for one in each)
    assert both.ranked[0].seconds == min(one.ranked[0].seconds for one in each)


def test_the_best_is_valid_and_fits_and_leads() -> None:
    run = run_of(SMALL)
    result = found(run, 8)
    assert result.ranked
    assert result.valid <= result.tried
    for each in result.ranked:
        assert allowed(run, each.layout, ranks=8, device="cuda")
        assert each.memory <= result.limit
        assert each.layout.world_size == 8
    times = [each.seconds for each in result.ranked[:20]]
    assert times == sorted(times)


@pytest.mark.parametrize("engine", ["megatron", "deepspeed"])
def test_every_layout_that_the_validator_allows_is_looked_at(engine: str) -> None:
    """Against all combinations of settings, on a world small enough for that."""
    run = run_of(f"{SMALL} engine={engine} train.global_batch=8 cluster.gpus_per_node=4")
    tried = set(candidates(run, 4, 4))
    sizes, flags = (1, 2, 3, 4), (False, True)
    for t, p, d, v, b in product(sizes, sizes, sizes, (1, 2, 3), (1, 4)):
        if t * p * d != 4:
            continue
        for sequence, zero, recompute, schedule in product(flags, range(4), RECOMPUTES, Schedule):
            layout = Layout(
                tensor=t,
                pipeline=p,
                data=d,
                interleave=v,
                micro_batch=b,
                sequence_parallel=sequence,
                zero=zero,
                recompute=recompute,
                schedule=schedule,
            )
            if layout not in tried:
                assert not allowed(run, layout, ranks=4, device="cuda"), layout


def test_deepspeed_offers_zero_three_and_folded_pipelines() -> None:
    run = run_of(f"{SMALL} engine=deepspeed")
    layouts = list(candidates(run, 8, 8))
    assert {layout.zero for layout in layouts} == {0, 1, 2, 3}
    assert any(layout.dualpipev for layout in layouts)
    assert all(layout.interleave == 1 for layout in layouts)


def test_the_front_gets_faster_as_it_takes_more_memory() -> None:
    front = found(run_of(SMALL), 8).front
    assert len(front) > 1
    for lean, fast in pairwise(front):
        assert lean.memory < fast.memory
        assert lean.seconds > fast.seconds


def test_what_fits_nowhere_fits_on_more_nodes() -> None:
    run = run_of(LARGE)
    machine = machine_of(run.cluster)
    calibration = calibrated("phalanx", machine.gpu)
    assert not found(run, 8).ranked
    assert not fits_somewhere(run, 8, DeviceName.cuda, machine, calibration)
    larger = run_of(f"{LARGE} cluster.nodes=64")
    assert fits_somewhere(larger, 512, DeviceName.cuda, machine, calibration)


MIXTURE = "cluster=dgx_h100 precision=bf16 optimizer.ramp_tokens=0"


def test_experts_are_dealt_out_as_ranks_and_experts_allow() -> None:
    run = run_of(f"{MIXTURE} model=mixtral_8x7b")
    layouts = list(candidates(run, 16, 8))
    assert {layout.expert for layout in layouts} == {1, 2, 4, 8}
    assert all(layout.stage_ranks % layout.expert == 0 for layout in layouts)
    assert all(layout.sequence_parallel for layout in layouts if layout.tensor > 1)
    assert all(layout.expert == 1 for layout in candidates(run_of(SMALL), 16, 8))
    ours = list(candidates(run_of(f"{MIXTURE} model=mixtral_8x7b engine=deepspeed"), 16, 8))
    assert {layout.zero for layout in ours} == {0, 1, 2}
    assert {layout.pipeline for layout in ours} == {1}


def test_a_large_mixture_fits_where_its_experts_are_dealt_out() -> None:
    run = run_of(f"{MIXTURE} model=qwen3_235b_a22b cluster.nodes=32")
    result = found(run, 256)
    assert result.ranked
    for each in result.ranked:
        assert allowed(run, each.layout, ranks=256, device="cuda")
        split = each.layout.expert * each.layout.expert_tensor * each.layout.pipeline
        assert split > 8, "the experts of many layers on one rank are too large"
