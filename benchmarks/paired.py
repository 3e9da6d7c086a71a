"""Ratios of times on a machine that drifts.

A shared machine is now fast, now slow, so two times taken minutes apart say little. What is
compared runs in turn, a block of a few steps each, in one process: each round gives a ratio of
neighbours, and the median of many rounds is reported with its quartiles. Every other round runs
backwards, so that a steady drift lengthens each side as often. Absolute times stand beside it as a
hint only.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from rich import box
from rich.console import Console
from rich.table import Table

Block = Callable[[int], None]
"""Runs so many steps."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some numbers and the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, numbers: list[float]) -> Spread:
        return cls(*statistics.quantiles(numbers, n=4, method="inclusive"))

    def __str__(self) -> str:
        return f"{self.median:.3f}"

    @property
    def around(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


@dataclass(frozen=True, slots=True)
class Paired:
    """Seconds a step, round by round, of what is compared; the base comes first."""

    seconds: dict[str, list[float]]

    @property
    def base(self) -> str:
        return next(iter(self.seconds))

    def ratio(self, name: str) -> Spread:
        """How much longer than the base, within each round."""
        both = zip(self.seconds[name], self.seconds[self.base], strict=True)
        return Spread.of([own / base for own, base in both])

    def step(self, name: str) -> Spread:
        return Spread.of(self.seconds[name])


def measure(
    blocks: Mapping[str, Block],
    *,
    rounds: int,
    steps: int,
    warm_up: int = 2,
    together: Callable[[], None] = lambda: None,
) -> Paired:
    """Runs every block once a round, the first of `blocks` being the base.

    Args:
        steps: of each block in each round.
        warm_up: rounds that are not counted.
        together: waits for all ranks; called before each look at the clock.
    """
    seconds: dict[str, list[float]] = {name: [] for name in blocks}
    for number in range(warm_up + rounds):
        forward = list(blocks)
        for name in forward if number % 2 else reversed(forward):
            together()
            started = time.perf_counter()
            blocks[name](steps)
            together()
            if number >= warm_up:
                seconds[name].append((time.perf_counter() - started) / steps)
    return Paired(seconds)


def show(paired: Paired, title: str, *, steps: int) -> None:
    rounds = len(paired.seconds[paired.base])
    table = Table(box=box.SIMPLE)
    for heading in ("", "ratio", "quartiles", "ms a step", "quartiles"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for name in paired.seconds:
        step = paired.step(name)
        ratio = paired.ratio(name)
        is_base = name == paired.base
        table.add_row(
            name,
            "1" if is_base else str(ratio),
            "" if is_base else ratio.around,
            f"{1000 * step.median:.1f}",
            f"{1000 * step.low:.1f} to {1000 * step.high:.1f}",
        )
    print(f"{title}\n{rounds} rounds of {steps} steps; {conditions()}")
    Console(width=110).print(table)


def conditions() -> str:
    """What the numbers were measured on: versions, cores, and what else the machine was doing."""
    load = os.getloadavg()[0]
    return (
        f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores, "
        f"{torch.get_num_threads()} threads a rank, load {load:.1f}"
    )
