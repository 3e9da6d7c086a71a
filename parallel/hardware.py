"""This machine's hardware, detected without torch, for the planner and the validator."""

from __future__ import annotations

import ctypes
import difflib
import importlib.util
import os
import re
import socket
from functools import cache
from pathlib import Path

import psutil

from configs.schema import DeviceName
from configs.words import listed


def torch_is_built_for_cuda() -> bool:
    """Reads torch's version file; importing torch would take seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version_file = Path(spec.origin).with_name("version.py")
    text = version_file.read_text(encoding="utf-8") if version_file.exists() else ""
    return re.search(r"^cuda\b.*=\s*['\"]", text, re.MULTILINE) is not None


def cuda_devices() -> int:
    """CUDA devices available to this process: visible to the driver and in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if visible is None:
        return present
    return min(
        present, len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    )


def interface_fault(name: str) -> str | None:
    """A message if this machine has no network interface of this name."""
    there = sorted(psutil.net_if_addrs())
    if name in there:
        return None
    near = (difflib.get_close_matches(name, there, 1, 0.0) or ["null"])[0]
    return (
        f"launch.interface={name}: {socket.gethostname()} has {listed(there)}; nearest: "
        f"launch.interface={near}"
    )


@cache
def compute_capability() -> tuple[int, int] | None:
    """The first GPU's compute capability, as (9, 0); None if the driver does not tell.

    From NVML, since torch would initialize CUDA, which reads environment variables once.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
    if nvml.nvmlInit_v2():
        return None
    try:
        found = nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0
        found = found and not nvml.nvmlDeviceGetCudaComputeCapability(
            device, ctypes.byref(major), ctypes.byref(minor)
        )
    finally:
        nvml.nvmlShutdown()
    return (major.value, minor.value) if found else None


def choose_device(asked: DeviceName) -> DeviceName:
    """`auto` is CUDA if torch was built for it and a device exists."""
    if asked is not DeviceName.auto:
        return asked
    usable = torch_is_built_for_cuda() and cuda_devices() > 0
    return DeviceName.cuda if usable else DeviceName.cpu


def threads_of_a_rank(ranks: int) -> int:
    """Of each of so many ranks on this machine, unless OMP_NUM_THREADS says otherwise: its share of
    the cores that this process may use.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // ranks)
