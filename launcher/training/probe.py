"""Measures, before a run on this machine's CPU, the smaller steps that its plan follows from."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from configs.schema import Run
from launcher.training.broadcast import broadcast_from_rank0
from parallel.engines.base import Batch
from parallel.engines.running import running_engine
from parallel.layout import Layout
from parallel.planner.inputs.probes import Probe, keep, kept, may_be_measured, sizes
from parallel.runtime.device import Device

FEWEST_STEPS = 20
"""Of a run, that measuring is worth its time."""
WARM, TIMED = 2, 5  # steps of each size: the first touch memory for the first time
LONGEST = 4.0
"""Seconds of the smallest step from which on measuring would take too long."""


def measure(
    run: Run, layout: Layout, device: Device, steps: int, say: Callable[[str], None]
) -> None:
    """Measures what is not kept yet, and keeps it. Collective.

    Args:
        steps: of the run from here on.
        say: tells the user what takes the time.
    """
    if not may_be_measured(run, layout, device.name) or steps < FEWEST_STEPS:
        return
    if not run.plan.measure or broadcast_from_rank0(lambda: bool(kept(run, layout))):
        return
    say("measuring this machine for its plans, once for each layout and version")
    probes: list[Probe] = []
    for layers, micro_batches in sizes(
        run.model.layers, layout.micro_batches(run.train.global_batch), layout
    ):
        seconds = _measured(run, layout, device, layers, micro_batches)
        if seconds is None:
            say("a step takes too long here to be measured: no step time is predicted")
            return
        probes.append(Probe(layers=layers, micro_batches=micro_batches, seconds=seconds))
    if torch.distributed.get_rank() == 0:
        keep(run, layout, probes)


def _measured(
    run: Run, layout: Layout, device: Device, layers: int, micro_batches: int
) -> float | None:
    """The median step of a smaller run on random tokens; None if one takes too long."""
    samples = micro_batches * layout.micro_batch * layout.data
    smaller = replace(
        run,
        model=replace(run.model, layers=layers),
        train=replace(run.train, global_batch=samples),
        optimizer=replace(run.optimizer, ramp_tokens=0),
        checkpoint=None,
    )
    generator = torch.Generator().manual_seed(0)
    shape = (layout.micro_batch, run.model.context + 1)
    tokens = [
        torch.randint(run.model.vocab, shape, generator=generator) for _ in range(micro_batches)
    ]
    batch, taken = Batch(micro_batches=tokens), []
    with running_engine(smaller, layout, device) as engine:
        for _ in range(WARM + TIMED):
            begin = time.perf_counter()
            engine.train_step(batch, 1e-4)
            taken.append(time.perf_counter() - begin)
            if len(taken) == 1 and broadcast_from_rank0(lambda: taken[0]) > LONGEST:
                return None
    gc.collect()
    return statistics.median(taken[WARM:])
