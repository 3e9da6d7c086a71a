"""How far a planned step time may be from the real one, by the errors of plans of published runs.

Each published run was planned by constants that were fitted without it: without all runs of its
size by the same program, and without all runs of that program. benchmarks/planner/held_out.py
writes these errors to held_out.json. An interval is the quantile of the errors of the nearest runs,
weighted by nearness as in conformal prediction under covariate shift (Tibshirani et al. 2019, with
the plan's own weight put beyond all errors). Imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from parallel.planner.inputs.job import Job

LEVEL = 0.9
SAME_PROGRAM, SAME_GPU, SAME_AGE, SAME_KIND, DOUBLING = 0.7, 0.5, 2.0, 0.1, 0.05
"""How much farther a run is that is of another program or GPU, of the time before fused attention
(or after it), differs in one kind of layout, or has twice the parameters; its weight falls to 1/e
with each unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What makes two runs near to each other."""

    software: str
    gpu: str
    fused_attention: bool
    parameters: float  # logarithm to base 2
    kinds: tuple[bool, ...]  # of layout, precision and model

    @classmethod
    def of(cls, job: Job, gpu: str) -> Traits:
        """Of a job on a GPU, named as calibration.json names it."""
        layout = job.layout
        return cls(
            software=job.software,
            gpu=gpu,
            fused_attention=job.flash,
            parameters=math.log2(job.shape.parameters),
            kinds=(
                layout.tensor > 1,
                layout.pipeline > 1,
                layout.chunks_per_stage > 1,
                layout.context > 1,
                layout.zero == 3,
                job.shape.moe.experts > 0,
                job.precision == "fp8",
            ),
        )

    def distance(self, other: Traits) -> float:
        """0 for runs alike in all of these."""
        kinds = sum(mine != theirs for mine, theirs in zip(self.kinds, other.kinds, strict=True))
        return (
            SAME_PROGRAM * (self.software != other.software)
            + SAME_GPU * (self.gpu != other.gpu)
            + SAME_AGE * (self.fused_attention != other.fused_attention)
            + SAME_KIND * kinds
            + DOUBLING * abs(self.parameters - other.parameters)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A published run and the errors of its plan, as logarithms of planned over measured."""

    traits: Traits
    by_size: float  # by constants fitted without the program's runs of its size
    by_program: float  # by constants fitted without any run of its program on its GPU


@cache
def held_out() -> tuple[HeldOut, ...]:
    """The published runs; empty before benchmarks/planner/held_out.py has run."""
    path = files("parallel.planner.inputs").joinpath("held_out.json")
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return tuple(
        HeldOut(
            traits=Traits(**{**row["traits"], "kinds": tuple(map(bool, row["traits"]["kinds"]))}),
            by_size=row["by_size"],
            by_program=row["by_program"],
        )
        for row in rows
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A time lies between its plan divided by `factor` and multiplied by it, nine times in ten."""

    factor: float
    nearest: int  # published runs that carry half of the weight


def spread(
    traits: Traits, rows: Sequence[HeldOut] | None = None, own: Sequence[float] = ()
) -> Spread:
    """Of a plan with these traits.

    Args:
        rows: the runs whose errors it rests on; None: all published ones.
        own: planned over measured times of one's own runs, to which the constants were fitted.
    """
    rows = held_out() if rows is None else rows
    seen = bool(own) or any(
        row.traits.software == traits.software and row.traits.gpu == traits.gpu for row in rows
    )
    weighed = [
        (abs(row.by_size if seen else row.by_program), math.exp(-traits.distance(row.traits)))
        for row in rows
    ]
    weighed = sorted([*weighed, *((abs(math.log(each)), 1.0) for each in own)])
    total = sum(weight for _, weight in weighed)
    # Of few runs no quantile is known: the largest error of one's own is believed.
    widest = max((abs(math.log(each)) for each in own), default=0.0)
    return Spread(
        factor=math.exp(max(_quantile(weighed, total + 1.0), widest)),
        nearest=_half([weight for _, weight in weighed], total),
    )


def _quantile(weighed: list[tuple[float, float]], total: float) -> float:
    reached = 0.0
    for error, weight in weighed:
        reached += weight
        if reached >= LEVEL * total:
            return error
    return weighed[-1][0]


def _half(weights: list[float], total: float) -> int:
    reached, count = 0.0, 0
    for weight in sorted(weights, reverse=True):
        reached, count = reached + weight, count + 1
        if reached >= total / 2:
            break
    return count
