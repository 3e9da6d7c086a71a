"""This machine's CPU as the planner's hardware, measured within milliseconds.

Ranks share the cores equally. Imports no torch.
"""

from __future__ import annotations

import math
import time
from functools import cache

import numpy as np
import psutil

from parallel.planner.inputs.machine import Machine

NAME = "CPU"
_SIZE = 512  # of the square matrices that are multiplied
_COPIED = 1 << 24  # bytes
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
    )


@cache
def _measured() -> tuple[float, float]:
    """FLOP/s of float32 matmuls and bytes/s of copies, over all cores: the best of several."""
    a = np.ones((_SIZE, _SIZE), dtype=np.float32)
    source = np.ones(_COPIED // 4, dtype=np.float32)
    target = np.empty_like(source)
    flops = 2 * _SIZE**3 / min(_seconds(lambda: a @ a) for _ in range(4))
    bandwidth = 2 * _COPIED / min(_seconds(lambda: np.copyto(target, source)) for _ in range(3))
    return flops, bandwidth


def _seconds(work: object) -> float:
    assert callable(work)
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
