"""Traces of the cases that tests.trained has real ranks take."""

from __future__ import annotations

from dataclasses import replace

import torch

from configs.schema import DeviceName, Run
from parallel.layout import Layout
from parallel.planner.trace.trace import RankTrace
from tests import training
from tests.pool import RankPool
from tests.runs import run_of
from tests.trained import Case

AT_ONCE = 60  # in one job of the pool, which has minutes for it
TRACERS = 2  # one a core: what torch learns of operations is paid for in each process


def tiny_run(case: Case, global_batch: int = 0) -> Run:
    """The run of tests.training, of the case's shape."""
    config, _, precision, shape = case
    run = run_of("model=gpt3_nano")
    model = replace(run.model, **shape.settings())
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
    """The first rank of each stage. All of a stage with its context rank do the same."""
    return [stage * layout.tensor * layout.copies for stage in range(layout.pipeline)]


def trace_here(asked: list[tuple[Run, Layout, int]], device: DeviceName) -> list[RankTrace]:
    """A job: the traces of some ranks, shared out over the processes of the pool."""
    from parallel.planner.trace.trace import trace

    here, of = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.distributed.destroy_process_group()
    return [trace(run, layout, rank, device=device) for run, layout, rank in asked[here::of]]


def trace_all(
    ranks: RankPool, asked: list[tuple[Run, Layout, int]], device: DeviceName
) -> list[RankTrace]:
    found = []
    for first in range(0, len(asked), AT_ONCE):
        part = asked[first : first + AT_ONCE]
        answers = ranks.run(TRACERS, trace_here, part, device)
        found += [answers[number % TRACERS][number // TRACERS] for number in range(len(part))]
    return found
