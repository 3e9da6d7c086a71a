"""The planner's constants as a vector that a fit may move.

A constant of a pair of software and GPU is the product of a value for all, a factor for the GPU and
a factor for the pair; every factor is held near 1 by a prior, so that a pair with few runs leans on
the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from benchmarks.planner.published import Published
from parallel.planner.inputs.calibration import Constants

Floats = NDArray[np.float64]
Pair = tuple[str, str]  # software and GPU


@dataclass(frozen=True, slots=True)
class Prior:
    """A constant's first value, and how far (in logarithms) its parts may usually go from it."""

    value: float
    base: float
    gpu: float = 0.0  # 0: no factor of its own for the GPU
    pair: float = 0.0


PRIORS = {
    "matmul": Prior(0.75, 0.15, 0.1, 0.08),
    "memory": Prior(0.75, 0.25, 0.2, 0.2),
    "attention": Prior(0.35, 0.4, 0.2, 0.3),
    "kernel_us": Prior(8.0, 0.2, 0.0, 0.9),
    "links": Prior(0.7, 0.3, 0.2, 0.15),
    "network": Prior(0.7, 0.4, 0.2, 0.3),
    "hop": Prior(0.7, 0.5, 0.0, 0.3),
    "hop_interleaved": Prior(0.7, 0.5, 0.0, 0.6),
    "hop_overlapped": Prior(0.3, 0.5, 0.0, 0.3),
    "overlap": Prior(0.5, 0.5, 0.0, 0.4),
    "depth": Prior(100.0, 1.0),
    "waves": Prior(0.3, 1.0),
    "misaligned": Prior(3.0, 0.5),
    "tensor_us": Prior(20.0, 0.5),
    "hop_us": Prior(20.0, 0.5),
    "gather_us": Prior(20.0, 0.5),
    "hidden": Prior(0.6, 0.4),
    "ring": Prior(0.05, 1.0),
}
LOOSE = {"megatron-core": 3.0}
"""Times as far that a pair of this software may go from others: runs of its continuous integration,
in deterministic mode, which say little of how fast a GPU is."""
SHARES = ("matmul", "memory", "attention", "links", "network", "hidden")
COMMON = [name for name, prior in PRIORS.items() if not prior.pair]
assert set(PRIORS) == {field.name for field in fields(Constants)}


class Model:
    """The constants as a vector of standardised logarithms."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)
        gpus = sorted({gpu for _, gpu in pairs})
        self.names: list[tuple[str, ...]] = [("base", name) for name in PRIORS]
        self.names += [("gpu", g, name) for g in gpus for name, p in PRIORS.items() if p.gpu]
        self.names += [("pair", *pair, n) for pair in pairs for n, p in PRIORS.items() if p.pair]
        self.index = {name: number for number, name in enumerate(self.names)}

    def constants(self, x: Floats, software: str, gpu: str) -> Constants:
        values = {}
        for name, prior in PRIORS.items():
            log = prior.base * self._at(x, "base", name)
            log += prior.gpu * self._at(x, "gpu", gpu, name)
            pair = prior.pair * LOOSE.get(software, 1.0)
            log += pair * self._at(x, "pair", software, gpu, name)
            value = prior.value * math.exp(log)
            values[name] = min(value, 0.98) if name in SHARES else value
        return Constants(**values)

    def _at(self, x: Floats, *name: str) -> float:
        number = self.index.get(name)
        return 0.0 if number is None else float(x[number])

    def pairs_of(self, number: int) -> list[Pair]:
        """The pairs whose constants depend on one number of the vector."""
        kind, *of = self.names[number]
        if kind == "pair":
            return [(of[0], of[1])]
        return [pair for pair in self.pairs if kind == "base" or pair[1] == of[0]]


def pair_of(run: Published) -> Pair:
    return run.job.software, run.gpu
