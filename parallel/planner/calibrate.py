"""Fits the planner's constants to measured steps of one's own runs.

Few runs say little of many constants, so each is held near its published value by a prior: it may
usually go as far from it as the constants of one program go from those of another
(benchmarks/planner/constants.py). Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from parallel.planner.inputs.calibration import Constants
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.timing.step import Step

FREEDOM = {
    "matmul": 0.15,
    "memory": 0.3,
    "attention": 0.4,
    "kernel_us": 0.9,
    "links": 0.2,
    "network": 0.3,
    "hop": 0.4,
    "hop_interleaved": 0.6,
    "hop_overlapped": 0.5,
    "overlap": 0.4,
}
"""How far, in logarithms, a constant usually goes from its published value."""
SHARES = ("matmul", "memory", "attention", "links", "network")
ERROR = 0.03
"""The relative error that a plan of a run with the right constants usually has."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A finished run: what was planned, and the seconds of its steps."""

    name: str
    job: Job
    machine: Machine
    seconds: float


def fitted(runs: Sequence[Measured], start: Constants) -> Constants:
    """The constants nearest to `start` by which the runs' plans come true."""

    def residuals(x: Floats) -> Floats:
        constants = _moved(start, x)
        return np.array([*(math.log(error(run, constants)) / ERROR for run in runs), *x])

    return _moved(start, least_squares(residuals, np.zeros(len(FREEDOM)), loss="soft_l1").x)


def error(run: Measured, constants: Constants) -> float:
    """Planned over measured seconds of a step."""
    return Step(run.job, run.machine, constants).time().seconds / run.seconds


def left_out(runs: Sequence[Measured], start: Constants) -> list[float]:
    """Each run's error by constants that were fitted to the others; `start` if there are none."""
    return [
        error(run, fitted([other for other in runs if other is not run], start))
        if len(runs) > 1
        else error(run, start)
        for run in runs
    ]


def _moved(start: Constants, x: Floats) -> Constants:
    moved = {
        name: getattr(start, name) * math.exp(freedom * float(by))
        for (name, freedom), by in zip(FREEDOM.items(), x, strict=True)
    }
    return replace(
        start, **{name: min(v, 0.98) if name in SHARES else v for name, v in moved.items()}
    )
