"""The two loops that `benchmarks.harness_overhead` compares. Imported once the device is open."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from benchmarks import paired
from launcher.data import Batches
from launcher.hooks.hook import Hook
from launcher.loop import Course, train_loop
from launcher.speed import Speed
from parallel.engine import Batch, StepResult
from parallel.megatron_engine import MegatronEngine

BATCHES = 4  # made beforehand, used in turn by the bare loop
MicroBatch = tuple[Tensor, Tensor, Tensor]  # tokens, labels and positions, each [B, T]


class Comparison:
    """Stands where the session calls the training loop, and is given all that the loop is given."""

    def __init__(self, rounds: int, steps: int, warm_up: int) -> None:
        self._rounds = rounds
        self._steps = steps
        self._warm_up = warm_up
        self.result: paired.Paired
        self.outside: float  # seconds a step that the harness spends outside the engine's step

    def __call__(
        self,
        engine: MegatronEngine,
        batches: Batches,
        course: Course,
        speed: Speed,
        hooks: Sequence[Hook],
    ) -> None:
        bare = BareLoop(engine, batches, course)
        harness = HarnessLoop(engine, batches, course, speed, hooks)
        self.result = paired.measure(
            {"bare loop": bare, "harness": harness, "bare loop again": bare},
            rounds=self._rounds,
            steps=self._steps,
            warm_up=self._warm_up,
        )
        self.outside = statistics.median(harness.outside[self._warm_up :])
        for hook in hooks:
            hook.at_end()


class HarnessLoop:
    """The training loop in portions; its hooks are told of every step, and of no end."""

    def __init__(
        self,
        engine: MegatronEngine,
        batches: Batches,
        course: Course,
        speed: Speed,
        hooks: Sequence[Hook],
    ) -> None:
        self._engine: Any = _Clocked(engine)
        self._batches = batches
        self._course = course
        self._speed = speed
        self._hooks = [_Unending(hook) for hook in hooks]
        self._next = course.first
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
        train_loop(self._engine, self._batches, portion, self._speed, self._hooks)
        elapsed = time.perf_counter() - started
        self.outside.append((elapsed - self._engine.seconds) / steps)
        self._next += steps


class _Clocked:
    """An engine, as far as the training loop knows it, and the time its steps take."""

    def __init__(self, engine: MegatronEngine) -> None:
        self._engine = engine
        self.seconds = 0.0

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        started = time.perf_counter()
        result = self._engine.train_step(batch, learning_rate)
        self.seconds += time.perf_counter() - started
        return result


class _Unending(Hook):
    """A hook without its `at_end`, which closes files."""

    def __init__(self, hook: Hook) -> None:
        self.before_step = hook.before_step  # type: ignore[method-assign]
        self.after_step = hook.after_step  # type: ignore[method-assign]


class BareLoop:
    """What a step cannot do without, on tensors that are there already."""

    def __init__(self, engine: MegatronEngine, batches: Batches, course: Course) -> None:
        self._chunks = engine.chunks
        self._optimizer = engine.optimizer
        self._schedule = get_forward_backward_func()
        size = course.batch_plan.global_batch
        made = [batches.at(number * size, size).micro_batches for number in range(BATCHES)]
        self._batches = itertools.cycle([[_ready(tokens) for tokens in batch] for batch in made])

    def __call__(self, steps: int) -> None:
        chunks = self._chunks
        for micro_batches in itertools.islice(self._batches, steps):
            samples, length = micro_batches[0][0].shape
            for chunk in chunks:
                chunk.zero_grad_buffer()
            self._optimizer.zero_grad()
            iterators = [iter(micro_batches) for _ in chunks]
            self._schedule(
                forward_step_func=_forward,
                data_iterator=iterators if len(chunks) > 1 else iterators[0],
                model=chunks if len(chunks) > 1 else chunks[0],
                num_microbatches=len(micro_batches),
                seq_length=length,
                micro_batch_size=samples,
                forward_only=False,
            )
            self._optimizer.step()


def _ready(tokens: Tensor) -> MicroBatch:
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return inputs, labels, torch.arange(inputs.shape[1]).expand_as(inputs)


def _forward(micro_batches: Iterator[MicroBatch], model: Any) -> tuple[Tensor, Any]:
    inputs, labels, positions = next(micro_batches)
    return model(inputs, positions, None, labels=labels), _mean


def _mean(losses: Tensor) -> tuple[Tensor, Tensor]:
    loss = losses.mean()
    return loss, loss
