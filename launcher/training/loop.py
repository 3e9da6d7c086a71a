"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from launcher.training.callbacks.callback import Callback, StepRecord
from launcher.training.data_loader import Batches
from launcher.training.loss_spikes import LossGuard
from launcher.training.stop import Stop
from launcher.training.throughput import Speed
from parallel.batch_schedule import BatchPlan
from parallel.engines.base import Engine, StepResult
from parallel.lr_schedule import LearningRate
from parallel.runtime.device import seed_generators


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSchedule:
    """The range of steps to run, with their batch sizes and learning rates."""

    first: int
    last: int
    samples: int  # consumed before the first step
    batch_plan: BatchPlan
    learning_rate: LearningRate
    seed: int
    skipped: Collection[int] = ()  # steps whose samples are skipped without an update


def train_loop(
    engine: Engine,
    batches: Batches,
    schedule: StepSchedule,
    speed: Speed,
    callbacks: Sequence[Callback],
    stop: Stop,
    guard: LossGuard,
) -> int:
    """Runs the steps of `schedule`, or until it is stopped; returns the last step it ran.

    Raises BadLossError if a loss is not finite, or has spiked.
    """
    samples = schedule.samples
    record: StepRecord | None = None
    for step in range(schedule.first, schedule.last + 1):
        stopping = stop.agreed()
        if record is not None and (stopping or stop.save_now):
            for callback in callbacks:
                callback.save_now(record)
        if stopping:
            break
        for callback in callbacks:
            callback.before_step(step)
        seed_generators(schedule.seed, step)
        started = time.perf_counter()
        size = schedule.batch_plan.size_at(samples)
        rate = schedule.learning_rate.of_step(samples, size)
        batch = batches.at(samples, size)
        samples += size
        if step < schedule.last:
            batches.prepare(samples, schedule.batch_plan.size_at(samples))
        result = _not_taken() if step in schedule.skipped else engine.train_step(batch, rate)
        elapsed = time.perf_counter() - started
        guard.judge(step, result)
        record = speed.record(step, samples, size, rate, result, elapsed)
        for callback in callbacks:
            callback.after_step(record)
    for callback in reversed(callbacks):  # saves finish before anything is drawn
        callback.at_end()
    return schedule.first - 1 if record is None else record.step


def _not_taken() -> StepResult:
    return StepResult(loss=math.nan, grad_norm=math.nan, skipped=True, loss_scale=math.nan)
