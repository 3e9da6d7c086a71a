"""What real ranks count, and traces of them, for every layout that both engines must take."""

from __future__ import annotations

from dataclasses import replace

import torch

from configs.schema import DeviceName, EngineConfig, Precision, Run
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.communication.traffic import Traffic
from parallel.planner.trace.trace import RankTrace
from tests import layouts, training
from tests.layouts import name
from tests.pool import RankPool
from tests.runs import run_of
from tests.training import DEEPSPEED, MEGATRON, SHAPE

Case = tuple[EngineConfig, Layout, Precision]
Counted = dict[Case, list[tuple[int, list[Traffic]]]]
"""Of each rank of a case: the numbers of the model that it holds, and its traffic."""

HALF = (Precision.bf16, Precision.fp16)
CASES: list[Case] = [
    *((MEGATRON, layout, Precision.float32) for layout in layouts.MEGATRON),
    *((MEGATRON, layout, Precision.float32) for layout in layouts.MEGATRON_RECOMPUTE),
    *((MEGATRON, layout, half) for layout in layouts.MEGATRON_HALF for half in HALF),
    *((DEEPSPEED, layout, Precision.float32) for layout in layouts.DEEPSPEED),
    *((DEEPSPEED, layout, Precision.float32) for layout in layouts.DEEPSPEED_RECOMPUTE),
    *((DEEPSPEED, layout, half) for layout in layouts.DEEPSPEED_HALF for half in HALF),
]
AT_ONCE = 6  # cases that one job runs: each has groups, each group threads
TRACERS = 2  # one a core: what torch learns of operations is paid for in each process


def case_name(case: Case) -> str:
    config, layout, precision = case
    return f"{config.name}-{name(layout)}-{precision}"


def tiny_run(case: Case, shape: ModelShape = SHAPE, global_batch: int = 0) -> Run:
    """The run of tests.training, or that of another shape."""
    config, _, precision = case
    run = run_of("model=gpt3_nano")
    model = replace(
        run.model,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        vocab=shape.vocab,
        context=shape.context,
        attention=shape.attention,
        window=shape.window,
    )
    samples = global_batch or training.GLOBAL_BATCH
    return replace(
        run,
        model=model,
        train=replace(run.train, global_batch=samples, seed=training.SEED),
        engine=config,
        optimizer=training.ADAM,
        precision=precision,
    )


def stage_ranks(layout: Layout) -> list[int]:
    """The first rank of each stage. All ranks of a stage do the same."""
    return [stage * layout.tensor * layout.data for stage in range(layout.pipeline)]


def count(cases: list[Case]) -> list[tuple[int, list[Traffic]]]:
    """A job: what this rank has and counts in a settled step of each case."""
    from parallel.planner.trace.collective_counter import counting

    answers = []
    for config, layout, precision in cases:
        settled = 2 if layout.zero == 3 else 1
        with training.engine(layout, precision, SHAPE, config) as engine:
            training.take_steps(engine, layout, 1, settled)
            with counting(layout) as counts:
                training.take_steps(engine, layout, settled + 1, settled + 1)
            parameters = sum(part.shape.numel() for part in engine.parameters())
            answers.append((parameters, counts.traffic()))
    return answers


def count_all(ranks: RankPool) -> Counted:
    found: Counted = {}
    for size in sorted({layout.world_size for _, layout, _ in CASES}):
        cases = [case for case in CASES if case[1].world_size == size]
        for few in (cases[first : first + AT_ONCE] for first in range(0, len(cases), AT_ONCE)):
            by_rank = ranks.run(size, count, few)
            found.update(zip(few, map(list, zip(*by_rank, strict=True)), strict=True))
    return found


def trace_here(asked: list[tuple[Run, Layout, int]], device: DeviceName) -> list[RankTrace]:
    """A job: the traces of some ranks, shared out over the processes of the pool."""
    from parallel.planner.trace.trace import trace

    here, of = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.distributed.destroy_process_group()
    return [trace(run, layout, rank, device=device) for run, layout, rank in asked[here::of]]


def trace_all(
    ranks: RankPool, asked: list[tuple[Run, Layout, int]], device: DeviceName
) -> list[RankTrace]:
    answers = ranks.run(TRACERS, trace_here, asked, device)
    return [answers[number % TRACERS][number // TRACERS] for number in range(len(asked))]
