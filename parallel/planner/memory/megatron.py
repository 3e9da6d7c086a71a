"""Megatron-core's memory besides weights and activations. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from parallel.planner.inputs.job import OURS, Job
from parallel.planner.memory.moment import Moment

FLOAT32 = 4  # bytes


def moments(job: Job, numbers: int, _held: int) -> Iterator[Moment]:
    """Gradients are in one permanent buffer of the rank's `numbers` parameters."""
    kept = kept_gradients(job, numbers)
    yield Moment(gradients=kept)
    if job.software == OURS and job.gradient_bytes < FLOAT32:
        # The update copies them to float32, each rank its shard of them.
        copies = FLOAT32 * numbers / (job.layout.copies if job.layout.zero == 1 else 1)
        yield Moment(gradients=kept + copies, kept=0, logits=0)


def kept_gradients(job: Job, numbers: int) -> float:
    """Bytes of the permanent gradients; for other software, as published."""
    kept = (job.kept_gradient_bytes or job.gradient_bytes) if job.number_bytes == 2 else 4
    return kept * numbers / (job.layout.copies if job.layout.zero >= 2 else 1)
