"""Whether a node's memory holds what its ranks keep there. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import psutil

from configs.schema import DeviceName, Run
from models.shape import ModelShape
from parallel.layout import Layout

BYTES_A_PARAMETER = 16  # float32 weight and gradient, Adam's two moments
BYTES_OF_A_COPY = 12  # the copy that an asynchronous checkpoint is written from
BYTES_OFFLOADED = 16  # float32 master and gradient, Adam's two moments
BYTES_A_RANK = 400 * 2**20  # a process that has imported torch and Megatron-core
_BYTES_OF_A_NUMBER = 4
_GIB = 2**30
_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_fault(run: Run, layout: Layout, device: DeviceName, ranks_here: int) -> str | None:
    """A message if `ranks_here` ranks on this machine would exceed its memory."""
    parameters = ModelShape.of(run.model).parameters
    needed = needed_bytes(run, layout, device, ranks_here)
    there = memory_bytes()
    if needed <= there:
        return None
    of = ""
    if device is DeviceName.cuda:
        of = " of host memory"
        setting, way = "train.async_save=true", "train.async_save=false"
        if run.engine.offload_optimizer:
            setting, way = "engine.offload_optimizer=true", "engine.offload_optimizer=false"
    else:
        setting, way = f"model={run.model.name}", "a smaller model or a cluster"
    return (
        f"{setting}: {ranks_here} ranks with {parameters / 1e6:,.0f}M "
        f"parameters need at least {needed / _GIB:,.0f} GiB{of}, this machine has "
        f"{there / _GIB:,.0f}; nearest: {way}"
    )


def context_fault(shape: ModelShape) -> str | None:
    """A message if the tables of rotary positions would exceed this machine's memory: those who use
    a model make them for the whole of its context.
    """
    needed, there = shape.context * _bytes_of_a_position(shape), memory_bytes()
    if needed <= there:
        return None
    return (
        f"model.context={shape.context}: its rotary positions take {needed / _GIB:,.0f} GiB, this "
        f"machine has {there / _GIB:,.0f}"
    )


def largest_context(shape: ModelShape) -> int:
    """A power of two without such a fault."""
    return int(2 ** ((memory_bytes() // _bytes_of_a_position(shape)).bit_length() - 1))


def _bytes_of_a_position(shape: ModelShape) -> int:
    return shape.rotated_channels * _BYTES_OF_A_NUMBER  # cosines and sines of half as many


def needed_bytes(run: Run, layout: Layout, device: DeviceName, ranks_here: int) -> float:
    """What the ranks keep in host memory: on CUDA, copies and an offloaded optimizer."""
    parameters = ModelShape.of(run.model).parameters
    copy = BYTES_OF_A_COPY if run.train.async_save else 0
    ranks = max(layout.world_size, 1)
    if device is DeviceName.cuda:
        offloaded = BYTES_OFFLOADED if run.engine.offload_optimizer else 0
        each = parameters * (copy + offloaded) / ranks  # both are shared out over all ranks
    else:
        each = parameters * (BYTES_A_PARAMETER * max(layout.copies, 1) + copy) / ranks
    return ranks_here * (each + BYTES_A_RANK)


def memory_bytes(limit: Path = _LIMIT) -> int:
    """This machine's memory, or what its job or container may use of it."""
    total: int = psutil.virtual_memory().total
    try:
        return min(total, int(limit.read_text("ascii")))
    except (OSError, ValueError):  # no such limit, or "max"
        return total
