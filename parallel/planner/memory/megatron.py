"""Megatron-core's memory besides weights and activations. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from parallel.parameter_count import Numbers
from parallel.planner.inputs.job import OURS, Job
from parallel.planner.memory.moment import Moment

FLOAT32 = 4  # bytes


def moments(job: Job, numbers: Numbers, _held: int) -> Iterator[Moment]:
    """Gradients are in one permanent buffer of the rank's `numbers` parameters."""
    kept = kept_gradients(job, numbers)
    yield Moment(gradients=kept)
    if job.software == OURS and job.gradient_bytes < FLOAT32:
        # The update copies them to float32, each rank its shard of them.
        copies = numbers.times(FLOAT32)
        held = copies.shard(job.layout) if job.layout.zero == 1 else copies.total
        yield Moment(gradients=kept + held, kept=0, logits=0)


def kept_gradients(job: Job, numbers: Numbers) -> float:
    """Bytes of the permanent gradients; for other software, as published."""
    kept = (job.kept_gradient_bytes or job.gradient_bytes) if job.number_bytes == 2 else 4
    gradients = numbers.times(kept)
    return gradients.shard(job.layout) if job.layout.zero >= 2 else float(gradients.total)
