"""This machine's CPU as the planner's hardware, measured within half a second.

Ranks share the cores equally. Imports no torch.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import psutil

from parallel.planner.inputs.machine import Machine

NAME = "CPU"
_SIZE, _MATRICES = 64, 128  # the square matrices that are multiplied
_COPIED = 1 << 24  # bytes
# What is timed is repeated for these seconds at least and at most, and between them until so many
# repeats in a row were not better by this part.
_AT_LEAST, _AT_MOST = 0.05, 0.2
_SETTLED, _BETTER = 20, 0.02
# Of one rank with a few cores, and its share of 10 Gb/s Ethernet.
_USUAL_FLOPS, _USUAL_BANDWIDTH, _USUAL_NETWORK = 1e11, 1e10, 6e8


def cpu_machine(ranks: int) -> Machine:
    """The share of one of `ranks` ranks on this machine."""
    flops, bandwidth = _measured()
    return Machine(
        gpu=NAME,
        # Half precision is emulated or converted: nothing faster than float32.
        peak_flops=dict.fromkeys(("float32", "bf16", "fp16"), flops / ranks),
        memory_bytes=psutil.virtual_memory().total / ranks,
        memory_bandwidth=bandwidth / ranks,
        multiprocessors=1,
        link_bandwidth=bandwidth / ranks,
        network_bandwidth=bandwidth / ranks,
        gpus_per_node=max(ranks, 1),
        link_gpus=max(ranks, 1),
    )


def nominal_machine(ranks_per_node: int) -> Machine:
    """A machine of typical figures and enough memory, the same everywhere.

    For results that all ranks must agree on: measurements differ from rank to rank.
    """
    return Machine(
        gpu=NAME,
        peak_flops=dict.fromkeys(("float32", "bf16", "fp16"), _USUAL_FLOPS),
        memory_bytes=math.inf,
        memory_bandwidth=_USUAL_BANDWIDTH,
        multiprocessors=1,
        link_bandwidth=_USUAL_BANDWIDTH,
        network_bandwidth=_USUAL_NETWORK,
        gpus_per_node=ranks_per_node,
        link_gpus=ranks_per_node,
    )


@cache
def _measured() -> tuple[float, float]:
    """FLOP/s of float32 matmuls over all cores, and bytes/s of copies.

    One core multiplies, and the others are taken to be as fast: a product that the library shares
    out waits for its slowest thread, which on a busy machine is up to 15 times as long, call after
    call. Matrices of this size are not shared out.
    """
    a = np.ones((_MATRICES, _SIZE, _SIZE), dtype=np.float32)
    b, product = np.ones((_SIZE, _SIZE), dtype=np.float32), np.empty_like(a)
    source = np.ones(_COPIED // 4, dtype=np.float32)
    target = np.empty_like(source)
    of_core = 2 * _MATRICES * _SIZE**3 / settled(lambda: np.matmul(a, b, out=product))
    bandwidth = 2 * _COPIED / settled(lambda: np.copyto(target, source))
    return of_core * _cores(), bandwidth


def _cores() -> int:
    """Cores that this process may use; two threads of one core are no faster than one."""
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if sys.platform != "linux":
        return physical
    return min(physical, len(os.sched_getaffinity(0)))


def settled(work: Callable[[], object], now: Callable[[], float] = time.perf_counter) -> float:
    """The seconds that `work` takes at best, once they have ceased to fall.

    A process's first calls are slow: pages are touched for the first time, a core leaves its sleep,
    others are at work on it.
    """
    start = now()
    best, since, spent = math.inf, 0, 0.0
    while spent < _AT_LEAST or (since < _SETTLED and spent < _AT_MOST):
        begin = now()
        work()
        end = now()
        spent, took = end - start, end - begin
        since = since + 1 if took > best * (1 - _BETTER) else 0
        best = min(best, took)
    return best
