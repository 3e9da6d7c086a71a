"""Ratios of times on a machine that drifts.

A shared machine is now fast, now slow, so two times taken minutes apart say little. What is
compared runs in turn, a block of a step or a few each, in one process: each round gives a ratio of
neighbours, and the median of many rounds is reported, with its quartiles and how well it is known.
Rounds go through all orders in turn, so that a drift, or who ran before, favours none. Absolute
times stand beside it as a hint only.
"""

from __future__ import annotations

import itertools
import math
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
    """The median of some numbers, the quartiles around it, and what it may truly be."""

    median: float
    quartiles: tuple[float, float]
    interval: tuple[float, float]  # holds the true median with 95 %, whatever the distribution

    @classmethod
    def of(cls, numbers: list[float]) -> Spread:
        """Of 15 numbers or more, so that the interval means something."""
        low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
        # How many of n numbers lie below the true median is binomial (n, 1/2).
        ordered, half = sorted(numbers), 0.98 * math.sqrt(len(numbers))
        first = max(0, math.floor(len(numbers) / 2 - half))
        return cls(median, (low, high), (ordered[first], ordered[-1 - first]))


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


def measure(blocks: Mapping[str, Block], *, rounds: int, steps: int, warm_up: int = 2) -> Paired:
    """Runs every block once a round, the first of `blocks` being the base. Collective.

    Args:
        steps: of each block in each round.
        warm_up: rounds that are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in blocks}
    orders = itertools.cycle(itertools.permutations(blocks))
    for number, order in enumerate(itertools.islice(orders, warm_up + rounds)):
        for name in order:
            _wait_for_all()
            started = time.perf_counter()
            blocks[name](steps)
            _wait_for_all()
            if number >= warm_up:
                seconds[name].append((time.perf_counter() - started) / steps)
    return Paired(seconds)


def _wait_for_all() -> None:
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.barrier()


def show(paired: Paired, title: str, threads: int | None = None) -> None:
    """`threads` of a rank, where what was measured had other processes than this one."""
    table = Table(box=box.SIMPLE)
    for heading in ("", "ratio", "known within", "quartiles", "ms a step"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, seconds in paired.seconds.items():
        step = f"{1000 * statistics.median(seconds):.0f}"
        if name == paired.base:
            table.add_row(name, "1", "", "", step)
            continue
        ratio = paired.ratio(name)
        table.add_row(
            name, f"{ratio.median:.3f}", _shown(ratio.interval), _shown(ratio.quartiles), step
        )
    print(f"{title}; {len(seconds)} rounds\n{conditions(threads)}")
    Console(markup=False, width=100).print(table)


def _shown(both: tuple[float, float]) -> str:
    return f"{both[0]:.3f} to {both[1]:.3f}"


def conditions(threads: int | None = None) -> str:
    """What the numbers were measured on: versions, cores, and what else the machine was doing."""
    load = os.getloadavg()[0]
    return (
        f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores, "
        f"{threads or torch.get_num_threads()} threads a rank, load {load:.1f}"
    )
