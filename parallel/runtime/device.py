"""A rank's compute device and the backend of its collectives."""

from __future__ import annotations

import ctypes
import datetime
import os
import random
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from configs.schema import DeviceName, LaunchConfig
from configs.settings.cuda import CudaConfig, LayerKind
from parallel.hardware import threads_of_a_rank
from parallel.runtime import gpu_packages, numa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass(frozen=True, slots=True)
class Device:
    """A rank's device; `backend` is nccl on CUDA, gloo on CPU."""

    name: DeviceName
    torch_device: torch.device
    backend: str

    @property
    def label(self) -> str:
        """The driver's name of the device."""
        return torch.cuda.get_device_name() if self.name is DeviceName.cuda else "CPU"

    def peak_memory_bytes(self) -> int:
        """This rank's peak memory: allocated on CUDA, resident on CPU."""
        if self.name is DeviceName.cuda:
            return torch.cuda.max_memory_allocated()
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def open_device(
    name: DeviceName, local_rank: int, ranks_here: int, cuda: CudaConfig | None = None
) -> Device:
    """Prepares this process for its device; on CPU installs the bridge and divides the cores.

    Call it before Megatron-core is imported, and set `rank_environment` before torch is.
    """
    # Otherwise gloo connects all pairs of every group at once, threads and sockets for each: on
    # CUDA too, where a group of gloo's beside NCCL coordinates saves.
    os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    if name is DeviceName.cuda:
        return _open_gpu(local_rank, cuda or CudaConfig())
    from parallel.runtime import cpu_bridge, pair_allreduce

    cpu_bridge.install()
    _keep_freed_memory()
    _yield_to_lock_holders()
    pair_allreduce.install()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads_of_a_rank(ranks_here))
    return Device(name, torch.device("cpu"), "gloo")


def _open_gpu(local_rank: int, cuda: CudaConfig) -> Device:
    torch.cuda.set_device(local_rank)
    gpu_packages.hide_unusable(transformer_engine=cuda.layers is not LayerKind.local)
    if cuda.numa_binding:
        numa.bind(torch.cuda.get_device_properties(local_rank))
    return Device(DeviceName.cuda, torch.device("cuda", local_rank), "nccl")


def _keep_freed_memory() -> None:
    """Makes glibc keep memory freed by a step for the next one.

    By default it returns large blocks to the system at once, which must then map and clear every
    page again: a tenth of a step of the 125M model.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _yield_to_lock_holders() -> None:
    """Schedules this thread, and those it will start, in batches (SCHED_BATCH, sched(7)).

    A message that arrives wakes gloo's event loop, which preempts the thread that holds the
    connection's lock and polls until the lock is free. In batches a thread that wakes up preempts
    no other: with more ranks than cores an all-reduce takes a quarter of the time.
    """
    if hasattr(os, "SCHED_BATCH"):  # Linux
        with suppress(OSError):  # a sandbox forbids it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def backend_timeout(timeout_s: int) -> datetime.timedelta:
    """The timeout passed to gloo and NCCL for `launch.timeout_s`.

    A fifth longer: the watchdog, which reports who waited where, must come first.
    """
    return datetime.timedelta(seconds=1.2 * timeout_s)


def join_world(device: Device, launch: LaunchConfig) -> None:
    """Joins the default process group from RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    With `device_id` NCCL connects here, and not in the first collective.
    """
    found = rendezvous("env://", timeout=backend_timeout(launch.start_timeout_s))
    store, rank, world_size = next(found)
    torch.distributed.init_process_group(
        device.backend,
        store=PrefixStore("default_pg", store),
        rank=rank,
        world_size=world_size,
        timeout=backend_timeout(launch.timeout_s),
        device_id=device.torch_device if device.name is DeviceName.cuda else None,
    )


def seed_generators(seed: int, step: int) -> None:
    """Seeds every generator from (seed, step), so that a resume needs no generator state."""
    mixed = (seed * 1_000_003 + step) % 2**32
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)
