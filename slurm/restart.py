"""Decides whether a run is restarted after a start has ended. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What follows the end of a start: nothing as the run is done, another start, or a stop."""

    done = "done"
    again = "again"
    stop = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of a run.

    Attributes:
        saved: the step of its newest complete checkpoint when it began.
    """

    job: str
    restart: int
    time: float
    saved: int
    nodes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What is known when a start has ended.

    Attributes:
        status: torchrun's exit status, which says little: it is 1 after a handled signal.
        saved: the step of the newest complete checkpoint.
        stopped: why the ranks stopped and saved, if they did.
        failure: of the rank that failed first.
        comes_again: the failure would recur, as with wrong settings or a full disk.
        asked_to_end: there is a STOP file.
    """

    status: int
    saved: int
    done: bool = False
    stopped: str | None = None
    failure: str | None = None
    comes_again: bool = False
    asked_to_end: bool = False


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """The decision, and its reason as text."""

    action: Action
    reason: str


def verdict(starts: list[Start], end: End, max_restarts: int, max_idle: int) -> RestartDecision:
    """Decides from what the run has left behind, not from the exit status.

    Args:
        starts: all starts of this run, including the one that has just ended.
        max_restarts: of one job.
        max_idle: consecutive starts that save nothing new.
    """
    if end.done:
        return RestartDecision(Action.done, "the run is done")
    if end.asked_to_end:
        return RestartDecision(
            Action.stop, "the run directory has a STOP file; without it the run goes on"
        )
    if end.failure is not None and end.comes_again and end.stopped is None:
        return RestartDecision(Action.stop, f"it would fail again: {end.failure}")
    why = end.stopped or end.failure or f"torchrun ended with {end.status}"
    if starts and starts[-1].restart >= max_restarts:
        return RestartDecision(
            Action.stop, f"{why}; it was restarted launch.max_restarts={max_restarts} times"
        )
    idle = _idle_starts(starts, end.saved)
    if idle >= max_idle:
        return RestartDecision(
            Action.stop,
            f"{why}; the last {idle} starts saved nothing new (launch.max_idle_starts)",
        )
    return RestartDecision(Action.again, f"{why}; saved step {end.saved}")


def _idle_starts(starts: list[Start], saved: int) -> int:
    """How many of the last starts began from the checkpoint that is still the newest."""
    count = 0
    for start in reversed(starts):
        if start.saved < saved:
            break
        count += 1
    return count
