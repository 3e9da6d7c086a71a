"""The two loops that harness_overhead.py compares. Imported once the device is open."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks import paired
from benchmarks.trainers.bare_loops import bare_loop
from configs.schema import Run
from launcher.training.callbacks.callback import Callback
from launcher.training.data_loader import Batches
from launcher.training.loop import StepSchedule, train_loop
from launcher.training.loss_spikes import LossGuard
from launcher.training.stop import Stop
from launcher.training.throughput import Speed
from parallel.engines.base import Batch, Engine, StepResult
from parallel.runtime.device import Device


class Comparison:
    """Stands where the session calls the training loop, and is given all that the loop is given."""

    def __init__(self, run: Run, device: Device, rounds: int, steps: int, warm_up: int) -> None:
        self._run = run
        self._device = device
        self._rounds = rounds
        self._steps = steps
        self._warm_up = warm_up
        self.result: paired.Paired
        self.outside: float  # seconds a step that the harness spends outside the engine's step

    def __call__(
        self,
        engine: Engine,
        batches: Batches,
        schedule: StepSchedule,
        speed: Speed,
        callbacks: Sequence[Callback],
        stop: Stop,
        guard: LossGuard,
    ) -> int:
        bare = bare_loop(self._run, engine, self._device, batches, schedule)
        harness = HarnessLoop(engine, batches, schedule, speed, callbacks, stop, guard)
        self.result = paired.measure(
            {"bare loop": bare, "harness": harness, "bare loop again": bare},
            rounds=self._rounds,
            steps=self._steps,
            warm_up=self._warm_up,
        )
        self.outside = statistics.median(harness.outside[self._warm_up :])
        for callback in callbacks:
            callback.at_end()
        return schedule.last


class HarnessLoop:
    """The training loop in portions; its callbacks hear of every step, and of no end."""

    def __init__(
        self,
        engine: Engine,
        batches: Batches,
        schedule: StepSchedule,
        speed: Speed,
        callbacks: Sequence[Callback],
        stop: Stop,
        guard: LossGuard,
    ) -> None:
        self._stop = stop
        self._guard = guard
        self._engine: Any = _Clocked(engine)
        self._batches = batches
        self._course = schedule
        self._speed = speed
        self._callbacks = [_Unending(callback) for callback in callbacks]
        self._next = schedule.first
        self.outside: list[float] = []

    def __call__(self, steps: int) -> None:
        portion = replace(
            self._course,
            first=self._next,
            last=self._next + steps - 1,
            samples=self._course.batch_plan.samples_after(self._next - 1),
        )
        self._engine.seconds = 0.0
        started = time.perf_counter()
        train_loop(
            self._engine,
            self._batches,
            portion,
            self._speed,
            self._callbacks,
            self._stop,
            self._guard,
        )
        elapsed = time.perf_counter() - started
        self.outside.append((elapsed - self._engine.seconds) / steps)
        self._next += steps


class _Clocked:
    """An engine, as far as the training loop knows it, and the time its steps take."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds = 0.0

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        started = time.perf_counter()
        result = self._engine.train_step(batch, learning_rate)
        self.seconds += time.perf_counter() - started
        return result


class _Unending(Callback):
    """A callback without its `at_end`, which closes files."""

    def __init__(self, callback: Callback) -> None:
        self.before_step = callback.before_step  # type: ignore[method-assign]
        self.after_step = callback.after_step  # type: ignore[method-assign]
