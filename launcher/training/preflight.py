"""Checks every node before the first step for problems that would end the run later. Collective.

Each node can compile kernels, each rank's device computes correctly, all ranks reach each other,
all see one run directory and may write to it, its disk has room for two checkpoints, and the
nodes' clocks agree.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import torch

from configs.errors import RunError
from configs.schema import DeviceName, Run
from configs.words import listed
from launcher.run.host_memory import memory_fault
from launcher.run.run_dir import RunFolder
from models.shape import ModelShape
from parallel.c_compiler import lacking_for_triton
from parallel.layout import Layout
from parallel.runtime.device import Device

SIDE = 64  # of the test matrix
CHECKPOINT_BYTES = 12  # per parameter: three float32 numbers
CHECKPOINTS = 2  # one is kept while the next is written
SEEN_WITHIN_S = 30.0  # shared file systems show new files late
CLOCKS_WITHIN_S = 5.0


def preflight(run: Run, folder: RunFolder, device: Device) -> list[str]:
    """Warnings about harmless anomalies, one line each, on every rank.

    Raises RunError on every rank with the faults found by all of them.
    """
    faults = [*_told(lambda: _compiles(device)), *_told(lambda: _fits_the_host(run, device))]
    faults += [*_told(lambda: _computes(device)), *_told(lambda: _reaches_all(device))]
    _together(faults)
    faults += _told(lambda: _shares(folder))
    if torch.distributed.get_rank() == 0:
        faults += _told(lambda: _has_room(ModelShape.of(run.model), folder))
    _together(faults)
    return _clocks()


def _told(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except (RunError, OSError, RuntimeError) as error:
        return [f"rank {torch.distributed.get_rank()} on {socket.gethostname()}: {error}"]
    return []


def _together(faults: list[str]) -> None:
    everyone: list[list[str]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, faults)
    found = [fault for each in everyone for fault in each]
    if found:
        raise RunError("before the first step: " + listed(found, apart="; "))


def _compiles(device: Device) -> None:
    """One rank per node looks for what Triton will need; on a CPU nothing runs through Triton."""
    if device.name is DeviceName.cuda and _first_on_its_node():
        lacking = lacking_for_triton()
        if lacking is not None:
            raise RunError(lacking)


def _fits_the_host(run: Run, device: Device) -> None:
    """One rank per node; a run on CPUs was checked before it started."""
    if device.name is DeviceName.cuda and _first_on_its_node():
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        layout = Layout.resolve(run.layout, None)
        if (fault := memory_fault(run, layout, device.name, ranks_here)) is not None:
            raise RunError(fault)


def _first_on_its_node() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _computes(device: Device) -> None:
    numbers = torch.arange(SIDE, dtype=torch.float32, device=device.torch_device)
    # A sum of squares, which float32 represents exactly.
    product = (numbers[None, :] @ numbers[:, None]).item()
    if product != (SIDE - 1) * SIDE * (2 * SIDE - 1) // 6:
        raise RunError(f"{device.label} computes wrongly: {product} for a sum of squares")


def _reaches_all(device: Device) -> None:
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    mine = torch.tensor([rank], device=device.torch_device)
    torch.distributed.all_reduce(mine)
    if mine.item() != ranks * (ranks - 1) // 2:
        raise RunError(f"an all-reduce over {ranks} ranks added up to {mine.item()}")


def _shares(folder: RunFolder) -> None:
    """Rank 0 creates a folder that all ranks must see; one rank per node must write to it."""
    rank = torch.distributed.get_rank()
    word = [uuid.uuid4().hex]
    torch.distributed.broadcast_object_list(word, src=0)
    place = folder.logs / f"preflight-{word[0]}"
    fault: Exception | None = None
    try:
        if rank == 0:
            place.mkdir(parents=True)
        _wait_for(place.is_dir, f"{folder.path} is not the directory that rank 0 sees")
        if _first_on_its_node():
            (place / str(rank)).write_text(word[0], encoding="utf-8")
    except (RunError, OSError) as error:
        fault = error
    torch.distributed.barrier()
    if rank == 0:
        shutil.rmtree(place, ignore_errors=True)
    if fault is not None:
        raise fault


def _wait_for(holds: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + SEEN_WITHIN_S
    while not holds():
        if time.monotonic() > until:
            raise RunError(otherwise)
        time.sleep(0.1)


def _has_room(shape: ModelShape, folder: RunFolder) -> None:
    needed = CHECKPOINTS * CHECKPOINT_BYTES * shape.parameters
    free = shutil.disk_usage(_existing(folder.checkpoints)).free
    if free < needed:
        raise RunError(
            f"the disk of {folder.path} is full: two checkpoints take {needed / 2**30:,.3g} GiB, "
            f"{free / 2**30:,.3g} GiB are free"
        )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _clocks() -> list[str]:
    torch.distributed.barrier()
    times = [(0.0, "")] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(times, (time.time(), socket.gethostname()))
    (first, early), (last, late) = min(times), max(times)
    if last - first <= CLOCKS_WITHIN_S:
        return []
    return [f"the clocks of {early} and {late} are {last - first:.0f} s apart; logs will mislead"]
