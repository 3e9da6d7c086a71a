"""Seconds and bytes of a hundred thousand layouts of one run: those of `Step` and `stage_memories`.

What a part of them depends on is computed once for all layouts that agree in it. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from configs.schema import Run
from parallel.layout import Layout
from parallel.parameter_count import Numbers, rank_numbers
from parallel.planner.candidates import Frame
from parallel.planner.inputs.calibration import Calibrated
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.memory.stages import PARTS, Parts, in_flight, stage_memory
from parallel.planner.timing.layers import Pass, Passes
from parallel.planner.timing.simulate import PassTimes
from parallel.planner.timing.step import Step
from parallel.remembered import Remembered


class Quick:
    """The estimates of one run under any layout."""

    def __init__(self, run: Run, machine: Machine, calibration: Calibrated) -> None:
        self._machine, self._calibration = machine, calibration
        self._settings = Remembered(lambda layout: _settings(Job.of(run, layout)))
        self._times = _Times(self._plain, self._quick)
        self._parts = _RememberedParts(self._of)
        self._few = Remembered(lambda layout: _few_stages(self._of(layout)))

    def seconds(self, layout: Layout) -> float:
        """`Step.seconds_estimate`."""
        return self._quick(layout).seconds_estimate()

    def memory(self, layout: Layout) -> float:
        """Bytes on the fullest rank, as the largest total of `stage_memories`."""
        job, overheads = self._of(layout), self._calibration.overheads
        return max(
            stage_memory(job, stage, held, overheads, self._parts).total
            for stage, held in self._few(layout)
        )

    def least_memory(self, frame: Frame) -> float:
        """Bytes that none of a frame's layouts is below: without activations and logits."""
        overheads = self._calibration.overheads
        least = 0.0
        layout = frame.layout
        for stage in {0, layout.logits_stage}:
            peaks = []
            for micro_batch in (min(frame.micro_batches), max(frame.micro_batches)):
                job = self._of(replace(layout, micro_batch=micro_batch))
                numbers, parameters, optimizer = self._parts.states(job, stage)
                held = in_flight(job.layout, job.micro_batches)[stage]
                moments = job.kind.load("moments")(job, numbers, held)
                gradients = max(each.gradients for each in moments)
                peaks.append(parameters + optimizer + gradients)
            least = max(least, min(peaks))
        return least + overheads.framework_gib * 2**30

    def _of(self, layout: Layout) -> Job:
        return Job(layout=layout, **self._settings(layout))

    def _plain(self, layout: Layout) -> Step:
        return Step(self._of(layout), self._machine, self._calibration.constants)

    def _quick(self, layout: Layout) -> _QuickStep:
        constants = self._calibration.constants
        return _QuickStep(self._of(layout), self._machine, constants, self._times)


class _Times:
    """The parts of a step's time, each by the layout's sizes that it depends on."""

    def __init__(
        self, step: Callable[[Layout], Step], quick: Callable[[Layout], _QuickStep]
    ) -> None:
        self.layers = {
            experts: Remembered(partial(_layer, step, experts)) for experts in (False, True)
        }
        self.embedding = Remembered(lambda layout: step(layout).passes.embedding())
        self.logits = Remembered(lambda layout: step(layout).passes.logits())
        self.hop = Remembered(lambda layout: step(layout).hop)
        self.optimizer = Remembered(lambda layout: Step.optimizer(quick(layout)))
        self.alike = Remembered(lambda layout: _alike(step(layout).job))
        self.kinds = Remembered(lambda layout: _kinds(step(layout).job))
        self.pipelines: dict[Layout, float] = {}
        self.numbers = Remembered(lambda layout: _most(quick(layout)))
        self._quick = quick
        self._gathered: dict[int, Remembered[float]] = {}

    def gathered(self, each: int) -> Remembered[float]:
        """Of `each` byte of the numbers."""
        if each not in self._gathered:
            self._gathered[each] = Remembered(
                lambda layout: Step.gathered(self._quick(layout), each)
            )
        return self._gathered[each]


@dataclass(frozen=True)
class _QuickPasses(Passes):
    """Passes of which those before the first layer and after the last are looked up."""

    times: _Times

    def embedding(self) -> Pass:
        return self.times.embedding(self.job.layout)

    def logits(self) -> Pass:
        return self.times.logits(self.job.layout)


@dataclass(frozen=True)
class _QuickStep(Step):
    """A step whose parts are looked up; of stages that are alike one is computed."""

    times: _Times

    @property
    def passes(self) -> Passes:
        return _QuickPasses(self.job, self.machine, self.constants, self.times)

    @property
    def numbers(self) -> Numbers:
        return self.times.numbers(self.job.layout)

    @property
    def hop(self) -> float:
        return self.times.hop(self.job.layout)

    def layer(self, *, experts: bool) -> Pass:
        return self.times.layers[experts](self.job.layout)

    def kinds(self, stage: int) -> list[tuple[bool, int]]:
        return self.times.kinds(self.job.layout)[stage]

    @property
    def pass_times(self) -> PassTimes:
        alike = self.times.alike(self.job.layout)
        of = {stage: self._chunks(stage) for stage in set(alike)}
        return PassTimes(
            forward=[of[stage][0] for stage in alike],
            backward=[of[stage][1] for stage in alike],
            hop=max(0.0, self.hop - self.waited),
        )

    def pipeline_estimate(self) -> float:
        layout = self.job.layout
        # Passes wait for data-parallel collectives under ZeRO 3 alone.
        alike = replace(layout, zero=0) if layout.zero in (1, 2) else layout
        if alike not in self.times.pipelines:
            self.times.pipelines[alike] = super().pipeline_estimate()
        return self.times.pipelines[alike]

    def gathered(self, each: int) -> float:
        return self.times.gathered(each)(self.job.layout)

    def optimizer(self) -> float:
        return self.times.optimizer(self.job.layout)


class _RememberedParts(Parts):
    """The parts of a stage's memory, by the layout's sizes that each depends on."""

    def __init__(self, job: Callable[[Layout], Job]) -> None:
        self._job = job
        self._states: dict[int, Remembered[tuple[Numbers, float, float]]] = {}
        self._layers = {
            experts: Remembered(partial(_activations, job, experts)) for experts in (False, True)
        }
        self._logits = Remembered(lambda layout: PARTS.logits(job(layout)))
        self._experts = Remembered(lambda layout: PARTS.experts(job(layout)))

    def states(self, job: Job, stage: int) -> tuple[Numbers, float, float]:
        if stage not in self._states:
            self._states[stage] = Remembered(lambda layout: PARTS.states(self._job(layout), stage))
        return self._states[stage](job.layout)

    def layer(self, job: Job, *, experts: bool) -> float:
        return self._layers[experts](job.layout)

    def logits(self, job: Job) -> float:
        return self._logits(job.layout)

    def experts(self, job: Job) -> float:
        return self._experts(job.layout)


def _layer(step: Callable[[Layout], Step], experts: bool, layout: Layout) -> Pass:
    return step(layout).layer(experts=experts)


def _activations(job: Callable[[Layout], Job], experts: bool, layout: Layout) -> float:
    return PARTS.layer(job(layout), experts=experts)


def _settings(job: Job) -> dict[str, Any]:
    """All of a job but its layout."""
    return {each.name: getattr(job, each.name) for each in fields(job) if each.name != "layout"}


def _most(step: _QuickStep) -> Numbers:
    """Elements on the rank that holds most, as `Step.numbers`."""
    shape, layout = step.job.shape, step.job.layout
    held = (rank_numbers(shape, layout, stage) for stage in set(step.times.alike(layout)))
    return max(held, key=lambda numbers: numbers.total)


def _kinds(job: Job) -> list[list[tuple[bool, int]]]:
    return [job.kinds_of(stage) for stage in range(job.layout.pipeline)]


def _alike(job: Job) -> list[int]:
    """For each stage the first one that takes as long: with as many layers, at the same end."""
    first: dict[object, int] = {}
    layout = job.layout
    found = []
    for stage in range(layout.pipeline):
        kinds = job.kinds_of(stage)
        chunks = job.kinds_of_chunks(stage) if len(kinds) > 1 else []
        ends = stage == 0, stage == layout.logits_stage
        found.append(first.setdefault((*ends, *kinds, *map(tuple, chunks)), stage))
    return found


def _few_stages(job: Job) -> list[tuple[int, int]]:
    """The stages of which one is the fullest, and the passes whose activations each holds.

    Of stages with the same layers and ends, the one that holds most passes; and apart from these
    those that hold none of an earlier micro-batch's gradients, as DeepSpeed's may.
    """
    layout = job.layout
    held = in_flight(layout, job.micro_batches)
    most: dict[object, int] = {}
    for stage in range(layout.pipeline):
        later = job.micro_batches * layout.chunks_per_stage > held[stage]
        ends = stage == 0, stage == layout.logits_stage
        key = (*ends, later, *job.kinds_of(stage))
        if key not in most or held[stage] > held[most[key]]:
            most[key] = stage
    return [(stage, held[stage]) for stage in most.values()]
