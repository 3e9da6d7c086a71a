"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import RunError
from launcher.data import Batches
from launcher.hooks.hook import Hook, StepRecord
from launcher.speed import Speed
from launcher.stopping import Stop
from parallel.batches import BatchPlan
from parallel.devices import seed_generators
from parallel.engine import Engine, StepResult
from parallel.learning_rate import LearningRate


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """From which step to which, with what batches and learning rates."""

    first: int
    last: int
    samples: int  # consumed before the first step
    batch_plan: BatchPlan
    learning_rate: LearningRate
    seed: int


def train_loop(
    engine: Engine,
    batches: Batches,
    course: Course,
    speed: Speed,
    hooks: Sequence[Hook],
    stop: Stop,
) -> int:
    """Takes the steps of `course`, or those until it is told to stop; returns the last it took.

    Raises RunError where the loss is no longer a number.
    """
    samples = course.samples
    record: StepRecord | None = None
    for step in range(course.first, course.last + 1):
        stopping = stop.agreed()
        if record is not None and (stopping or stop.save_now):
            for hook in hooks:
                hook.save_now(record)
        if stopping:
            break
        for hook in hooks:
            hook.before_step(step)
        seed_generators(course.seed, step)
        started = time.perf_counter()
        size = course.batch_plan.size_at(samples)
        rate = course.learning_rate.of_step(samples, size)
        result = engine.train_step(batches.at(samples, size), rate)
        elapsed = time.perf_counter() - started
        samples += size
        _require_finite(result, step)
        record = speed.record(step, samples, size, rate, result, elapsed)
        for hook in hooks:
            hook.after_step(record)
    for hook in hooks:
        hook.at_end()
    return course.first - 1 if record is None else record.step


def _require_finite(result: StepResult, step: int) -> None:
    if result.skipped:  # fp16 found its loss scale too large, which is no harm
        return
    if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
        raise RunError(
            f"step {step}: loss {result.loss}, gradient norm {result.grad_norm}; "
            "go on from an earlier checkpoint with a lower optimizer.learning_rate"
        )
