"""The search: what it finds is valid, fits, and is no worse than what brute force finds."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from configs.schema import DeviceName, Recompute, Run, Schedule
from parallel.layout import Layout
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.search import Found, candidates, fits_somewhere, search
from parallel.rules import allowed
from tests.runs import run_of

SMALL = "model=gpt3_1.3b cluster=dgx_a100 precision=bf16 optimizer.ramp_tokens=0"
LARGE = "model=gpt3_175b cluster=dgx_a100 precision=bf16 optimizer.ramp_tokens=0"


def found(run: Run, ranks: int) -> Found:
    machine = machine_of(run.cluster)
    return search(run, ranks, DeviceName.cuda, machine, calibrated("phalanx", machine.gpu))


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
        for sequence, zero, recompute, schedule in product(flags, range(4), Recompute, Schedule):
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
        assert each.layout.expert > 1, "on one rank the experts of a layer alone are too large"
