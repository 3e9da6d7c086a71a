from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from parallel.planner.inputs.cpu import settled


class Clock:
    """Time that passes only while there is work, for as long as the work is told to take."""

    def __init__(self, durations: Iterator[float]) -> None:
        self.time, self.calls, self._durations = 0.0, 0, durations

    def now(self) -> float:
        return self.time

    def work(self) -> None:
        self.calls += 1
        self.time += next(self._durations)


def _slow_at_first(slow: int, seconds: float) -> Iterator[float]:
    yield from [30 * seconds] * slow
    while True:
        yield seconds


def test_slow_first_calls_do_not_count() -> None:
    clock = Clock(_slow_at_first(slow=12, seconds=1e-4))
    assert settled(clock.work, clock.now) == pytest.approx(1e-4)


def test_what_still_gets_faster_goes_on_but_not_for_ever() -> None:
    falling = Clock(3e-3 * 0.95**i + 1e-3 for i in range(10_000))
    assert settled(falling.work, falling.now) < 1.3e-3
    slow = Clock(_slow_at_first(slow=1, seconds=0.5))
    settled(slow.work, slow.now)
    assert slow.calls == 1  # a machine so slow that one call is enough of a wait


def test_processes_agree() -> None:
    """Of three new processes the best two are close; this machine may be busy during one."""
    code = (
        "from parallel.planner.inputs.cpu import cpu_machine as m; print(m(1).peak_flops['bf16'])"
    )
    rates = sorted(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    )
    assert rates[2] / rates[1] < 1.5
