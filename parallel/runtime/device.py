"""The device a rank computes on and the backend its collectives go through."""

from __future__ import annotations

import ctypes
import datetime
import os
import random
from dataclasses import dataclass

import numpy as np
import torch

from configs.schema import DeviceName

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass(frozen=True, slots=True)
class Device:
    """A rank's device; `backend` is nccl on CUDA, gloo on CPU."""

    name: DeviceName
    torch_device: torch.device
    backend: str

    @property
    def label(self) -> str:
        """What the driver calls it."""
        return torch.cuda.get_device_name() if self.name is DeviceName.cuda else "CPU"

    def peak_memory_bytes(self) -> int:
        """Peak of this rank: allocated on CUDA, resident on CPU."""
        if self.name is DeviceName.cuda:
            return torch.cuda.max_memory_allocated()
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def open_device(name: DeviceName, local_rank: int, ranks_here: int) -> Device:
    """Readies this process for its device; on CPU installs the bridge and shares out the cores."""
    if name is DeviceName.cuda:
        # Megatron-core overlaps tensor-parallel collectives with matmuls by the order of launches,
        # which before Blackwell holds on one hardware queue only.
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
        torch.cuda.set_device(local_rank)
        return Device(name, torch.device("cuda", local_rank), "nccl")
    from parallel.runtime import cpu_bridge, pair_allreduce

    cpu_bridge.install()
    _keep_freed_memory()
    pair_allreduce.install()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_here))
    return Device(name, torch.device("cpu"), "gloo")


def _keep_freed_memory() -> None:
    """Has glibc keep what a step gives back for the next one, up to its end.

    By default it returns what is large to the system at once, which has to find and clear every
    page of it again: a tenth of a step of 125M.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def backend_timeout(timeout_s: int) -> datetime.timedelta:
    """What gloo and NCCL are told of `launch.timeout_s`.

    Later than that by a fifth: the watchdog, which can say who waited where, comes first.
    """
    return datetime.timedelta(seconds=1.2 * timeout_s)


def join_world(device: Device, timeout_s: int) -> None:
    """Joins the default process group from RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."""
    torch.distributed.init_process_group(
        device.backend,
        timeout=backend_timeout(timeout_s),
        device_id=device.torch_device if device.name is DeviceName.cuda else None,
    )


def seed_generators(seed: int, step: int) -> None:
    """Seeds every generator from (seed, step), so that a resumed run needs no generator's state."""
    mixed = (seed * 1_000_003 + step) % 2**32
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)
