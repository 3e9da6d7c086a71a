"""Binds a rank to the processor cores nearest to its GPU.

A copy between a GPU and memory of the other socket crosses the link between sockets, and so does
whatever the rank's threads read. Memory follows the cores: Linux takes it from the node of the
thread that touches it first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

SYSTEM = Path("/sys")


def bind(gpu: Any, system: Path = SYSTEM) -> set[int]:
    """Binds this thread, and those it will start; returns the cores, none if nothing changed.

    `gpu`: torch's device properties. Cores that the process may not use, as SLURM decides, stay
    out; if none is left, or the machine does not tell, nothing changes.
    """
    address = f"{gpu.pci_domain_id:04x}:{gpu.pci_bus_id:02x}:{gpu.pci_device_id:02x}.0"
    try:
        node = int((system / f"bus/pci/devices/{address}/numa_node").read_text("ascii"))
        listed = (system / f"devices/system/node/node{node}/cpulist").read_text("ascii")
    except (OSError, ValueError):
        return set()
    near = _cores(listed) & os.sched_getaffinity(0)
    if near:
        os.sched_setaffinity(0, near)
    return near


def _cores(listed: str) -> set[int]:
    """The numbers in a list of the kernel's: 0-15,32-47."""
    found: set[int] = set()
    for part in listed.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
