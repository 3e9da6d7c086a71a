"""Which shipped cluster has a GPU, by the name that the driver or gres.conf gives it."""

from __future__ import annotations

import re
from functools import cache

from parallel.planner.inputs.calibration import FAMILIES
from parallel.planner.inputs.cluster import clusters_of_gpus, figures_of

OTHER_BOARDS = ("PCIE", "NVL")
"""Cards of the same chip with a slower clock, fewer multiprocessors or other links."""
ALIKE = 0.08
"""Memory that differs by no more is the same: correcting errors takes a part, and names round."""


def words_of(gpu: str) -> set[str]:
    """The parts of a GPU's name: NVIDIA A100-SXM4-80GB and nvidia_a100_sxm4_80gb have the same."""
    return set(re.split(r"[-_\s]+", gpu.upper()))


def family_of(gpu: str) -> str | None:
    """The family of constants that a GPU belongs to; None if it is of none."""
    return next((name for name in FAMILIES if set(name.split("-")) <= words_of(gpu)), None)


def near_clusters(gpu: str) -> list[str]:
    """The shipped clusters whose GPUs are of the same family."""
    family = family_of(gpu)
    return [name for of, name in clusters_of_gpus().items() if family and family_of(of) == family]


def cluster_of(gpu: str, memory_gib: float | None) -> str | None:
    """The shipped cluster with this very GPU; None if there is none, or several fit.

    Args:
        memory_gib: of the GPU as its driver says; None: by the name alone.
    """
    if set(OTHER_BOARDS) & words_of(gpu):
        return None
    near = [name for name in near_clusters(gpu) if _has(name, gpu, memory_gib)]
    return near[0] if len(near) == 1 else None


def _has(cluster: str, gpu: str, memory_gib: float | None) -> bool:
    if memory_gib is not None:
        return abs(memory_gib / float(figures_of(cluster)["memory_gib"]) - 1) < ALIKE
    sizes = [size for word in words_of(gpu) if (size := _gigabytes(word))]
    return not sizes or _gigabytes(str(figures_of(cluster)["gpu"]).split("-")[-1]) in sizes


@cache
def _gigabytes(word: str) -> int | None:
    found = re.fullmatch(r"(\d+)GB", word)
    return int(found[1]) if found else None
