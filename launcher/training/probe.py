"""Measures, before a run on this machine's CPU, the smaller steps that its plan follows from."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

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
WARM, TIMED = 2, 7  # steps of each size: the first touch memory for the first time
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
    asked = sizes(run.model.layers, layout.micro_batches(run.train.global_batch), layout)
    for layers in dict.fromkeys(layers for layers, _ in asked):
        counts = [count for its, count in asked if its == layers]
        seconds = _measured(run, layout, device, layers, counts)
        if seconds is None:
            say("a step takes too long here to be measured: no step time is predicted")
            return
        probes += [
            Probe(layers=layers, micro_batches=count, seconds=each)
            for count, each in zip(counts, seconds, strict=True)
        ]
    if torch.distributed.get_rank() == 0:
        keep(run, layout, probes)


def _measured(
    run: Run, layout: Layout, device: Device, layers: int, counts: list[int]
) -> list[float] | None:
    """The steps of a smaller run on random tokens with these numbers of micro-batches, in turn, so
    that what else the machine does meets all alike; None if one takes too long.

    Each is the quickest but one: a step that something else held up says nothing of the next.
    """
    smaller = replace(
        run,
        model=replace(run.model, layers=layers),
        train=replace(run.train, global_batch=max(counts) * layout.micro_batch * layout.data),
        optimizer=replace(run.optimizer, ramp_tokens=0),
        checkpoint=None,
    )
    generator = torch.Generator().manual_seed(0)
    shape = (layout.micro_batch, run.model.context + 1)
    tokens = [
        torch.randint(run.model.vocab, shape, generator=generator) for _ in range(max(counts))
    ]
    rounds: list[list[float]] = []
    with running_engine(smaller, layout, device) as engine:
        for _ in range(WARM + TIMED):
            taken = []
            for count in counts:
                begin = time.perf_counter()
                engine.train_step(Batch(micro_batches=tokens[:count]), 1e-4)
                taken.append(time.perf_counter() - begin)
            rounds.append(taken)
            if len(rounds) == 1 and broadcast_from_rank0(lambda: rounds[0][0]) > LONGEST:
                return None
    gc.collect()
    settled = zip(*rounds[WARM:], strict=True)
    return list(accumulate((sorted(taken)[1] for taken in settled), max))  # more is never quicker
