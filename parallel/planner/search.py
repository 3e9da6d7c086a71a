"""All valid layouts of a number of ranks, ranked by step time. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from configs.schema import ContextBy, DeviceName, Recompute, Run, Schedule
from parallel.engines.registry import ENGINES, EngineKind
from parallel.layout import Layout
from parallel.planner.inputs.calibration import Calibrated
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.memory.stages import stage_memories
from parallel.planner.timing.step import Step
from parallel.rules import allowed

MICRO_BATCHES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 64)
LEAST_TOKENS = 4096  # of a sequence on a rank; shorter ones are split only where a run asks for it
PLAYED = 40  # the fastest by estimate, whose schedules are then simulated


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout with its predicted step time and memory."""

    layout: Layout
    seconds: float  # of a step
    memory: float  # bytes on the fullest rank

    def fits(self, limit: float) -> bool:
        """Whether the fullest rank stays within `limit` bytes."""
        return self.memory <= limit


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search."""

    limit: float  # bytes that a layout may use: a rank's memory less the margin
    tried: int
    valid: int
    ranked: list[Candidate]  # those that fit, fastest first
    leanest: Candidate | None  # the valid layout of least memory, whether it fits or not
    front: list[Candidate]  # no other valid layout is both faster and leaner


def search(
    run: Run, ranks: int, device: DeviceName, machine: Machine, calibration: Calibrated
) -> Found:
    """Every layout of `ranks` ranks that the validator allows, under the run's engine."""
    limit = machine.memory_bytes * (1 - run.plan.margin)
    tried = 0
    valid: list[Candidate] = []
    for layout in candidates(run, ranks, machine.link_gpus):
        tried += 1
        if allowed(run, layout, ranks=ranks, device=device):
            valid.append(_candidate(run, layout, machine, calibration))
    fitting = sorted((c for c in valid if c.fits(limit)), key=lambda c: c.seconds)
    finals = [_played(run, each, machine, calibration) for each in fitting[:PLAYED]]
    finals.sort(key=lambda c: c.seconds)
    return Found(
        limit=limit,
        tried=tried,
        valid=len(valid),
        ranked=finals + fitting[PLAYED:],
        leanest=min(valid, key=lambda c: c.memory, default=None),
        front=_front(valid),
    )


def fits_somewhere(
    run: Run, ranks: int, device: DeviceName, machine: Machine, calibration: Calibrated
) -> bool:
    """Whether any valid layout fits with the margin."""
    limit = machine.memory_bytes * (1 - run.plan.margin)
    return any(
        _memory(Job.of(run, layout), calibration) <= limit
        and allowed(run, layout, ranks=ranks, device=device)
        for layout in candidates(run, ranks, machine.link_gpus)
    )


def candidates(run: Run, ranks: int, gpus_per_node: int) -> Iterator[Layout]:
    """Layouts whose sizes multiply to `ranks` and divide the model; the validator does the rest."""
    model, batch = run.model, run.train.global_batch
    kind = ENGINES[run.engine.name]
    for tensor in _divisors(ranks):
        if model.heads % tensor or (tensor > gpus_per_node and tensor > 1):
            continue
        for context, pipeline in product(*[_divisors(ranks // tensor)] * 2):
            if pipeline > 1 and model.moe.experts and not kind.experts_with_pipeline:
                continue
            if model.layers % pipeline or ranks // tensor % (context * pipeline):
                continue
            asked = context in (1, run.layout.context)
            if not asked and model.context // context < LEAST_TOKENS:
                continue
            if context > 1 and model.context % (2 * context):
                continue
            data = ranks // tensor // pipeline // context
            experts = _experts(run, tensor * context * data)
            sizes = [b for b in MICRO_BATCHES if batch % (b * data) == 0]
            for shape in product(
                sizes,
                _foldings(model.layers // pipeline, pipeline, kind),
                _sequences(run, tensor),
                _zeros(run, pipeline, data * context, kind),
                Recompute,
                tuple(ContextBy) if context > 1 else (None,),
                experts,
            ):
                micro_batch, (interleave, schedule), sequence, zero, recompute, way, expert = shape
                yield Layout(
                    tensor=tensor,
                    context=context,
                    context_by=way,
                    expert=expert,
                    pipeline=pipeline,
                    data=data,
                    interleave=interleave,
                    schedule=schedule,
                    micro_batch=micro_batch,
                    sequence_parallel=sequence,
                    zero=zero,
                    recompute=recompute,
                )


def _experts(run: Run, stage_ranks: int) -> list[int]:
    """Ranks that a layer's experts can be dealt out to, each with whole experts."""
    return [size for size in _divisors(run.model.moe.experts or 1) if stage_ranks % size == 0]


def _sequences(run: Run, tensor: int) -> tuple[bool, ...]:
    """Sequence parallel or not, which with experts each token's ranks must be."""
    if tensor == 1:
        return (False,)
    return (True,) if run.model.moe.experts else (False, True)


def _foldings(layers: int, pipeline: int, kind: EngineKind) -> list[tuple[int, Schedule]]:
    """The number of chunks per stage, and the schedule."""
    chunks = _divisors(layers) if kind.interleaves and pipeline > 1 else [1]
    found = [(each, Schedule.standard) for each in chunks]
    if kind.dualpipev and pipeline > 1 and layers % 2 == 0:
        found.append((1, Schedule.dualpipev))
    return found


def _zeros(run: Run, pipeline: int, copies: int, kind: EngineKind) -> tuple[int, ...]:
    if copies == 1:
        return (0,)
    stages = kind.zero_with_pipeline if pipeline > 1 else kind.zero
    if not run.model.moe.experts:
        return stages
    return tuple(zero for zero in stages if zero in kind.zero_with_experts)


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def _candidate(run: Run, layout: Layout, machine: Machine, calibration: Calibrated) -> Candidate:
    job = Job.of(run, layout)
    seconds = Step(job, machine, calibration.constants).seconds_estimate()
    return Candidate(layout, seconds, _memory(job, calibration))


def _memory(job: Job, calibration: Calibrated) -> float:
    return max(stage.total for stage in stage_memories(job, calibration.overheads))


def _played(run: Run, candidate: Candidate, machine: Machine, calibration: Calibrated) -> Candidate:
    step = Step(Job.of(run, candidate.layout), machine, calibration.constants)
    return replace(candidate, seconds=step.time().seconds)


def _front(valid: list[Candidate]) -> list[Candidate]:
    """The Pareto front of memory against time, leanest first."""
    front: list[Candidate] = []
    for each in sorted(valid, key=lambda c: (c.memory, c.seconds)):
        if not front or each.seconds < front[-1].seconds:
            front.append(each)
    return front
