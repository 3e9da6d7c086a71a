"""Megatron-core's memory besides weights and activations. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from parallel.planner.inputs.job import Job
from parallel.planner.memory.moment import Moment


def moments(job: Job, numbers: int, _held: int) -> Iterator[Moment]:
    """Gradients are in one permanent buffer of the rank's `numbers` parameters."""
    yield Moment(gradients=kept_gradients(job, numbers))


def kept_gradients(job: Job, numbers: int) -> float:
    """Bytes of the permanent gradients; for other software, as published."""
    kept = (job.kept_gradient_bytes or job.gradient_bytes) if job.number_bytes == 2 else 4
    return kept * numbers / (job.layout.data if job.layout.zero >= 2 else 1)
