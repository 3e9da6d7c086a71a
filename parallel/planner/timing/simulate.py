"""Simulates the pipeline's schedule event by event: when every pass begins and ends.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from parallel.layout import Layout
from parallel.planner.schedule.order import Op, orders

STEADY = 2
"""Micro-batches to simulate, in multiples of the stages; a schedule is periodic after the first
`stages`, so the time of more is extrapolated exactly if every stage takes the same time."""


@dataclass(frozen=True, slots=True)
class Event:
    """Start and end in seconds from the beginning of the step."""

    stage: int
    op: Op
    begin: float
    end: float


@dataclass(frozen=True)
class Played:
    """The passes of a pipeline in one step."""

    events: list[list[Event]]  # by stage, in order

    @cached_property
    def seconds(self) -> float:
        """From the beginning of the step to the end of the last pass."""
        return max(stage[-1].end for stage in self.events)

    @cached_property
    def busy(self) -> list[float]:
        """Seconds that each stage computes."""
        return [sum(event.end - event.begin for event in stage) for stage in self.events]

    @property
    def in_flight(self) -> list[int]:
        """The maximum number of passes whose activations each stage holds at once."""
        most = []
        for stage in self.events:
            held = peak = 0
            for event in stage:
                held += 1 if event.op.forward else -1
                peak = max(peak, held)
            most.append(peak)
        return most


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTimes:
    """Seconds of one micro-batch: [stage][chunk], and of a message between neighbouring stages."""

    forward: list[list[float]]
    backward: list[list[float]]
    hop: float


def play(layout: Layout, times: PassTimes, micro_batches: int) -> Played:
    """Runs every pass as soon as its stage is free and its inputs have arrived."""
    stages, chunks = layout.pipeline, layout.chunks_per_stage
    pieces = stages * chunks
    order = orders(layout, micro_batches)
    place = [[_piece(layout, stage, chunk) for chunk in range(chunks)] for stage in range(stages)]
    home = {place[s][c]: s for s in range(stages) for c in range(chunks)}
    ended = [[[-1.0] * micro_batches for _ in range(pieces)] for _ in (0, 1)]  # backward, forward
    position, clock = [0] * stages, [0.0] * stages
    events: list[list[Event]] = [[] for _ in range(stages)]
    waiting = list(range(stages))
    while waiting:
        stage = waiting.pop()
        ops, done = order[stage], events[stage]
        now, at = clock[stage], position[stage]
        while at < len(ops):
            op = ops[at]
            piece = place[stage][op.chunk]
            before = piece - 1 if op.forward else piece + 1
            if 0 <= before < pieces:
                ready = ended[op.forward][before][op.micro_batch]
                if ready < 0:
                    break
                if home[before] != stage:
                    ready += times.hop
                now = max(now, ready)
            elif not op.forward and ended[1][piece][op.micro_batch] < 0:
                break
            length = (times.forward if op.forward else times.backward)[stage][op.chunk]
            end = now + length
            done.append(Event(stage, op, now, end))
            ended[op.forward][piece][op.micro_batch] = end
            after = piece + 1 if op.forward else piece - 1
            if 0 <= after < pieces and home[after] != stage and home[after] not in waiting:
                waiting.append(home[after])
            now = end
            at += 1
        clock[stage], position[stage] = now, at
    assert all(at == len(ops) for at, ops in zip(position, order, strict=True)), "a deadlock"
    return Played(events)


def seconds_of(layout: Layout, times: PassTimes, micro_batches: int) -> float:
    """Seconds of the full pipeline; long steps are simulated in part and extrapolated."""
    played = STEADY * layout.pipeline
    if micro_batches <= played + layout.pipeline:
        return play(layout, times, micro_batches).seconds
    played += micro_batches % layout.pipeline
    shorter = play(layout, times, played).seconds
    longer = play(layout, times, played + layout.pipeline).seconds
    groups = (micro_batches - played) // layout.pipeline
    return shorter + groups * (longer - shorter)


def _piece(layout: Layout, stage: int, chunk: int) -> int:
    if layout.dualpipev and chunk == 1:
        stage = layout.pipeline - 1 - stage
    return chunk * layout.pipeline + stage
