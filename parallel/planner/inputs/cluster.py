"""Checks whether the cluster settings suffice for a plan, and suggests alternatives.

Imports no torch.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib.resources import files

import yaml

from configs.errors import InputError
from configs.settings.planning import ClusterConfig
from parallel.planner.inputs.calibration import calibrated, family, software_names
from parallel.planner.inputs.machine import Machine

FIGURES = ("memory_gib", "memory_gb_s", "multiprocessors", "link_gb_s", "network_gb_s")


@cache
def cluster_names() -> list[str]:
    """The shipped clusters that are not this machine."""
    folder = files("configs").joinpath("cluster")
    names = [path.name.removesuffix(".yaml") for path in folder.iterdir()]
    return sorted(name for name in names if not name.startswith(("local", "_")))


@cache
def clusters_of_gpus() -> dict[str, str]:
    """Every GPU of the shipped cluster files and the first file that has it."""
    found: dict[str, str] = {}
    for path in sorted(files("configs").joinpath("cluster").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml"):
            cluster = yaml.safe_load(path.read_text(encoding="utf-8"))
            if cluster["gpu"]:
                found.setdefault(cluster["gpu"], cluster["name"])
    return found


def machine_of(cluster: ClusterConfig) -> Machine:
    """The machine of a GPU cluster.

    Raises InputError for an unknown GPU, or one whose figures are missing or belong to another.
    """
    known = clusters_of_gpus()
    if cluster.gpu is None:
        raise InputError(
            f"cluster={cluster.name}: which GPU it has is not known before a run starts; nearest: "
            "cluster=dgx_a100"
        )
    if family(cluster.gpu) is None:
        near = _nearest(cluster.gpu, list(known))
        raise InputError(
            f"cluster.gpu={cluster.gpu}: the planner does not know this GPU; nearest: "
            f"cluster={known[near]} (cluster.gpu={near})"
        )
    missing = [name for name in FIGURES if getattr(cluster, name) is None]
    if missing or not cluster.peak_tflops:
        name = f"cluster.{missing[0]}=null" if missing else "cluster.peak_tflops={}"
        near = _nearest(cluster.gpu, list(known))
        raise InputError(f"{name}: a plan needs this figure; nearest: cluster={known[near]}")
    _require_own_figures(cluster, known)
    _require_software(cluster)
    return Machine.of(cluster)


def _require_own_figures(cluster: ClusterConfig, known: dict[str, str]) -> None:
    """Detects a changed name with the figures of another GPU."""
    assert cluster.gpu is not None
    home = known.get(cluster.gpu)
    if home is None or cluster.memory_gb_s == _figures(home)["memory_gb_s"]:
        return
    others = [
        name for name in known.values() if cluster.memory_gb_s == _figures(name)["memory_gb_s"]
    ]
    if others:
        raise InputError(
            f"cluster.gpu={cluster.gpu}: the other figures are those of cluster={others[0]}; "
            f"nearest: cluster={home}"
        )


@cache
def _figures(name: str) -> dict[str, object]:
    text = files("configs").joinpath("cluster", f"{name}.yaml").read_text(encoding="utf-8")
    figures: dict[str, object] = yaml.safe_load(text)
    return figures


def _require_software(cluster: ClusterConfig) -> None:
    names = software_names()
    if cluster.software not in names:
        raise InputError(
            f"cluster.software={cluster.software}: no runs of it were measured; nearest: "
            f"cluster.software={_nearest(cluster.software, names)}"
        )
    try:
        calibrated(cluster.software, cluster.gpu or "")
    except KeyError:
        raise InputError(
            f"cluster.software={cluster.software}: none of its runs was on {cluster.gpu}; nearest: "
            "cluster.software=phalanx"
        ) from None


def _nearest(name: str, known: list[str]) -> str:
    return difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
