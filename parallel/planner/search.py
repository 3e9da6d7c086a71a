"""All valid layouts of a number of ranks, ranked by step time. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from itertools import count, groupby

from configs.schema import DeviceName, EngineConfig, Run
from parallel.engines.registry import ENGINES
from parallel.layout import Layout
from parallel.planner.candidates import WITHIN, Frame, frames
from parallel.planner.inputs.calibration import Calibrated
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.quick import Quick
from parallel.planner.timing.step import Step
from parallel.planner.verdicts import Verdicts

PLAYED = 40  # the fastest by estimate, whose schedules are then simulated
KEPT = 2_000  # the fastest that are ranked
_ALIKE = 1e-9  # times that differ by less, relatively, are the same sums in another order


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout with its predicted step time and memory."""

    layout: Layout
    seconds: float  # of a step
    memory: float  # bytes on the fullest rank
    engine: EngineConfig

    def fits(self, limit: float) -> bool:
        """Whether the fullest rank stays within `limit` bytes."""
        return self.memory <= limit


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search."""

    limit: float  # bytes that a layout may use: a rank's memory less the margin
    tried: int
    valid: int
    ranked: list[Candidate]  # those that fit, fastest first; no more than `KEPT`
    leanest: Candidate | None  # where none fits, the valid layout of least memory
    front: list[Candidate]  # no other valid layout that fits is both faster and leaner


@dataclass(frozen=True, slots=True)
class _Guess:
    """A valid layout whose memory is not computed yet, and is no less than `least`."""

    seconds: float
    least: float
    layout: Layout
    of: _Engine
    slower: tuple[Layout, ...] = ()  # that recompute more


@dataclass(frozen=True)
class _Engine:
    """A search under one engine."""

    run: Run
    quick: Quick
    verdicts: Verdicts
    link_gpus: int
    ranks: int

    def frames(self) -> Iterator[Frame]:
        return frames(self.run, self.ranks, self.link_gpus)

    def valid(self, frame: Frame) -> list[Layout]:
        return self.verdicts.allowed(frame.layouts(), WITHIN)

    def guess(self, layout: Layout, least: float) -> _Guess:
        return _Guess(self.quick.seconds(layout), least, layout, self)

    def candidate(self, guess: _Guess) -> Candidate:
        memory = self.quick.memory(guess.layout)
        return Candidate(guess.layout, guess.seconds, memory, self.run.engine)


@dataclass
class _Sifted:
    """The layouts by whether their states alone leave room."""

    tried: int = 0
    valid: int = 0
    may_fit: list[_Guess] = field(default_factory=list)
    too_large: list[tuple[float, _Engine, tuple[Layout, ...]]] = field(default_factory=list)


def search(
    run: Run,
    ranks: int,
    device: DeviceName,
    machine: Machine,
    calibration: Calibrated,
    engines: Sequence[EngineConfig] = (),
) -> Found:
    """Every layout of `ranks` ranks that the validator allows.

    Args:
        engines: those to try; none: the run's own.
    """
    limit = machine.memory_bytes * (1 - run.plan.margin)
    tried = _engines(run, ranks, device, machine, calibration, engines)
    sifted = _sift(tried, limit)
    ranked, front = _ranked(sifted.may_fit, limit)
    finals = [_played(run, each, machine, calibration) for each in ranked[:PLAYED]]
    finals.sort(key=lambda c: c.seconds)
    return Found(
        limit=limit,
        tried=sifted.tried,
        valid=sifted.valid,
        ranked=finals + ranked[PLAYED:],
        leanest=None if finals else _leanest(sifted),
        front=front,
    )


def fits_somewhere(
    run: Run,
    ranks: int,
    device: DeviceName,
    machine: Machine,
    calibration: Calibrated,
    engines: Sequence[EngineConfig] = (),
) -> bool:
    """Whether any valid layout fits with the margin."""
    limit = machine.memory_bytes * (1 - run.plan.margin)
    return any(
        each.quick.memory(layout) <= limit
        for each in _engines(run, ranks, device, machine, calibration, engines)
        for frame in each.frames()
        if each.quick.least_memory(frame) <= limit
        for layout in each.valid(frame)
    )


def some_layout_is_valid(run: Run, ranks: int, device: DeviceName, link_gpus: int) -> bool:
    """Whether the validator allows any."""
    verdicts = Verdicts(run, ranks=ranks, device=device)
    return any(map(verdicts.allow, candidates_of(frames(run, ranks, link_gpus))))


def candidates_of(of: Iterable[Frame]) -> Iterator[Layout]:
    """The layouts of all the frames."""
    for frame in of:
        yield from frame.layouts()


def every_engine(*, offloads: bool = False) -> list[EngineConfig]:
    """Those to try where none is asked for.

    Args:
        offloads: those that keep the optimizer in host memory, doing so.
    """
    return [
        EngineConfig(name=kind.name, offload_optimizer=offloads)
        for kind in ENGINES.values()
        if kind.offloads_optimizer or not offloads
    ]


def _engines(
    run: Run,
    ranks: int,
    device: DeviceName,
    machine: Machine,
    calibration: Calibrated,
    engines: Sequence[EngineConfig],
) -> list[_Engine]:
    found = []
    for engine in engines or (run.engine,):
        its = replace(run, engine=engine)
        verdicts = Verdicts(its, ranks=ranks, device=device)
        quick = Quick(its, machine, calibration)
        found.append(_Engine(its, quick, verdicts, machine.link_gpus, ranks))
    return found


def _sift(engines: Iterable[_Engine], limit: float) -> _Sifted:
    sifted = _Sifted()
    for engine in engines:
        for frame in engine.frames():
            sifted.tried += frame.count
            valid = engine.valid(frame)
            if not valid:
                continue
            sifted.valid += len(valid)
            least = engine.quick.least_memory(frame)
            if least > limit:
                sifted.too_large.append((least, engine, tuple(valid)))
                continue
            sifted.may_fit += _guesses(engine, valid, least)
    return sifted


def _guesses(engine: _Engine, valid: Sequence[Layout], least: float) -> Iterator[_Guess]:
    """Of a frame's valid layouts; of those that differ in recomputation alone the fastest."""
    for _, alike in groupby(valid, key=lambda layout: (layout.micro_batch, layout.context_by)):
        fastest, *slower = alike
        yield replace(engine.guess(fastest, least), slower=tuple(slower))


def _ranked(guesses: list[_Guess], limit: float) -> tuple[list[Candidate], list[Candidate]]:
    """The fastest that fit, and the Pareto front of memory against time, leanest first.

    Fastest first, so that a layout's memory matters only until enough of them fit, or where it may
    be less than that of all that are faster.
    """
    ranked: list[Candidate] = []
    front: list[Candidate] = []
    number = count()  # so that equals are taken in order
    waiting = [(guess.seconds, next(number), guess) for guess in guesses]
    heapify(waiting)
    while waiting:
        _, _, guess = heappop(waiting)
        enough = len(ranked) == KEPT
        if enough and guess.least >= front[-1].memory:
            continue
        for layout in guess.slower:
            later = guess.of.guess(layout, guess.least)
            heappush(waiting, (later.seconds, next(number), later))
        candidate = guess.of.candidate(guess)
        if not candidate.fits(limit):
            continue
        if not enough:
            ranked.append(candidate)
        add_to_front(front, candidate)
    return ranked, front[::-1]


def add_to_front(front: list[Candidate], candidate: Candidate) -> None:
    """Adds one that is not faster than those before, if it is leaner."""
    if front and candidate.memory >= front[-1].memory:
        return
    if front and candidate.seconds <= front[-1].seconds * (1 + _ALIKE):
        front.pop()
    front.append(candidate)


def _leanest(sifted: _Sifted) -> Candidate | None:
    """Of all valid layouts, those first whose states are smallest."""
    best: Candidate | None = None
    every = [(each.least, each.of, (each.layout, *each.slower)) for each in sifted.may_fit]
    every += sifted.too_large
    for least, engine, layouts in sorted(every, key=lambda each: each[0]):
        if best is not None and least >= best.memory:
            break
        for layout in layouts:
            other = engine.candidate(engine.guess(layout, least))
            if best is None or other.memory < best.memory:
                best = other
    return best


def _played(run: Run, candidate: Candidate, machine: Machine, calibration: Calibrated) -> Candidate:
    its = replace(run, engine=candidate.engine)
    step = Step(Job.of(its, candidate.layout), machine, calibration.constants)
    return replace(candidate, seconds=step.time().seconds)
