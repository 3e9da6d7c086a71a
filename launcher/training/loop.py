"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from launcher.training.callbacks.callback import Hook, StepRecord
from launcher.training.data_loader import Batches
from launcher.training.loss_spikes import LossGuard
from launcher.training.stop import Stop
from launcher.training.throughput import Speed
from parallel.batch_schedule import BatchPlan
from parallel.engines.base import Engine, StepResult
from parallel.lr_schedule import LearningRate
from parallel.runtime.device import seed_generators


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """From which step to which, with what batches and learning rates."""

    first: int
    last: int
    samples: int  # consumed before the first step
    batch_plan: BatchPlan
    learning_rate: LearningRate
    seed: int
    skipped: Collection[int] = ()  # steps that are not taken: their samples are passed by


def train_loop(
    engine: Engine,
    batches: Batches,
    course: Course,
    speed: Speed,
    hooks: Sequence[Hook],
    stop: Stop,
    guard: LossGuard,
) -> int:
    """Takes the steps of `course`, or those until it is told to stop; returns the last it took.

    Raises BadLossError where a loss is no longer a number, or has spiked.
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
        batch = batches.at(samples, size)
        samples += size
        if step < course.last:
            batches.prepare(samples, course.batch_plan.size_at(samples))
        result = _not_taken() if step in course.skipped else engine.train_step(batch, rate)
        elapsed = time.perf_counter() - started
        guard.judge(step, result)
        record = speed.record(step, samples, size, rate, result, elapsed)
        for hook in hooks:
            hook.after_step(record)
    for hook in reversed(hooks):  # saves are waited for before anything is drawn
        hook.at_end()
    return course.first - 1 if record is None else record.step


def _not_taken() -> StepResult:
    return StepResult(loss=math.nan, grad_norm=math.nan, skipped=True, loss_scale=math.nan)
