"""What a program says of nodes and GPUs, before it is known what those can do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Nodes that are alike; None where the program does not tell."""

    program: str  # the value of cluster.from
    name: str  # of the machine or the partition
    nodes: int
    gpus_per_node: int
    gpu: str | None  # as the program calls it
    memory_gib: float | None = None  # of a GPU
    link_gb_s: float | None = None  # where GPUs are not all joined by NVLink
    notes: tuple[str, ...] = ()  # for the user
