"""Planned memory against the trace's, which executes the engine's own code."""

from __future__ import annotations

import pytest
import torch

from configs.schema import DeviceName
from parallel.layout import Layout
from parallel.planner.inputs.job import Job
from parallel.planner.memory.stages import in_flight, stage_memories
from parallel.planner.schedule.order import orders
from tests.pool import RankPool
from tests.runs import run_of

COMMON = "model=gpt3_1.3b model.layers=4 cluster=dgx_a100 precision=bf16 train.global_batch=8"
LLAMA = "model=llama3_8b model.layers=4 model.context=2048 model.vocab=32000"
SMALL_LLAMA = "model=llama3_1b model.layers=4 model.context=2048 model.vocab=32000 model.tied=false"
MOE = "model=olmoe_7b model.moe.experts=16 model.layers=2 model.context=2048 model.vocab=32000"
CASES = {
    "layout=single": 0.03,
    "layout=single layout.recompute=full": 0.05,
    "layout=tp2 layout.sequence_parallel=true": 0.05,
    "layout=dp2 layout.zero=1": 0.03,
    "layout=pp2 layout.micro_batch=1": 0.05,
    "layout=dp2 layout.zero=1 optimizer=muon": 0.03,
    "engine=deepspeed layout=dp2 layout.zero=1 optimizer=muon": 0.02,
    "layout=dp2 layout.zero=1 cuda.bf16_gradients=true": 0.03,
    "layout=dp2 cuda.bf16_gradients=true": 0.03,
    "layout=dp2 layout.zero=1 cuda.cross_entropy_fusion=false": 0.03,
    f"{LLAMA} layout=single": 0.02,
    f"{LLAMA} layout=tp2 layout.sequence_parallel=true": 0.02,
    f"{LLAMA} layout=pp2 layout.micro_batch=1": 0.05,
    f"{LLAMA} layout=single layout.context=2 layout.context_by=gather": 0.02,
    f"{LLAMA} layout=single layout.context=2 layout.context_by=ring": 0.02,
    f"{LLAMA} layout=single layout.context=4 layout.context_by=exchange layout.zero=1": 0.02,
    "layout=single layout.context=2 layout.context_by=gather": 0.03,
    "model=qwen3_4b model.layers=4 layout=single layout.micro_batch=1": 0.02,
    "model=pythia_1b model.layers=4 layout=single": 0.02,
    "model=olmo2_7b model.layers=2 layout=single layout.micro_batch=1": 0.02,
    f"{MOE} layout=single layout.micro_batch=1": 0.01,
    f"{MOE} layout=tp2 layout.sequence_parallel=true layout.expert=2": 0.01,
    f"{MOE} layout=dp2 layout.data=4 layout.expert=2 layout.zero=1 layout.micro_batch=1": 0.01,
    f"{MOE} model.layers=4 model.moe.dense_layers=1 model.moe.shared=2048 layout=pp2 layout.data=2 "
    "layout.expert=2 layout.zero=1 layout.micro_batch=1": 0.01,
    f"{MOE} model.layers=4 layout=pp2 layout.micro_batch=1 layout.recompute=full": 0.01,
    f"{MOE} layout=dp2 layout.expert=2 layout.expert_by=all_gather layout.micro_batch=1": 0.01,
    f"engine=deepspeed {MOE} layout=dp2 layout.expert=2 layout.zero=2": 0.01,
    f"engine=deepspeed {SMALL_LLAMA} layout=dp2 layout.zero=2": 0.04,
    f"engine=deepspeed {SMALL_LLAMA} layout=dp2 layout.zero=3 layout.micro_batch=1": 0.07,
    "engine=deepspeed layout=dp2 layout.zero=1": 0.02,
    "engine=deepspeed layout=dp2 layout.zero=1 layout.micro_batch=1 model.context=256": 0.02,
    "engine=deepspeed layout=pp2 layout.data=2 layout.zero=1 train.global_batch=16 "
    "precision=fp16": 0.05,
    "engine=deepspeed layout=dp2 layout.zero=2": 0.02,
    "engine=deepspeed layout=dp2 layout.zero=2 layout.data=4 layout.micro_batch=1": 0.02,
    "engine=deepspeed layout=dp2 layout.zero=3 layout.micro_batch=1": 0.02,
    "engine=deepspeed layout=dp2 layout.zero=2 precision=float32": 0.05,
}


def peaks(cases: list[str]) -> list[int]:
    """A job: the peak of rank 0 by the trace."""
    from parallel.planner.trace.trace import trace

    here, of = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.distributed.destroy_process_group()
    found = []
    for case in cases[here::of]:
        run = run_of(f"{COMMON} optimizer.ramp_tokens=0 {case}")
        layout = Layout.resolve(run.layout, None)
        found.append(trace(run, layout, 0, device=DeviceName.cuda).peak_bytes)
    return found


def test_planned_memory_is_that_of_the_trace(ranks: RankPool) -> None:
    cases = list(CASES)
    answers = ranks.run(2, peaks, cases)
    for first, part in enumerate(answers):
        for case, traced in zip(cases[first::2], part, strict=True):
            run = run_of(f"{COMMON} optimizer.ramp_tokens=0 {case}")
            planned = stage_memories(Job.of(run, Layout.resolve(run.layout, None)))[0].allocated
            assert planned == pytest.approx(traced, rel=CASES[case]), case


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_what_is_in_flight_is_what_the_orders_hold(stages: int, chunks: int, rounds: int) -> None:
    layout = Layout(pipeline=stages, interleave=chunks if stages > 1 else 1)
    for micro_batches in {rounds * stages, *([rounds] if chunks == 1 else [])}:
        most = []
        for ops in orders(layout, micro_batches):
            held = [0]
            for op in ops:
                held.append(held[-1] + (1 if op.forward else -1))
            most.append(max(held))
        assert in_flight(layout, micro_batches) == most


def test_what_is_in_flight_is_what_the_papers_say() -> None:
    assert in_flight(Layout(pipeline=4), 16) == [4, 3, 2, 1]
    assert in_flight(Layout(pipeline=4), 2) == [2, 2, 2, 1]
    # (p - 1) 2 + (v - 1) p + 1 on the first stage: Megatron-core's warm-up, and one more.
    assert in_flight(Layout(pipeline=4, interleave=2), 16)[0] == 11
