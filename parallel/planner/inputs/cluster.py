"""Checks whether the cluster settings suffice for a plan, and suggests alternatives.

Imports no torch.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from configs.errors import InputError
from configs.override import override
from configs.settings.planning import ClusterConfig
from configs.words import listed
from parallel.planner.inputs.calibration import calibrated, family, software_names
from parallel.planner.inputs.machine import Machine

MAKERS = ("dgx_", "hgx_")
FIGURES = (
    *("gpus_per_node", "memory_gib", "memory_gb_s", "multiprocessors", "link_gb_s"),
    "network_gb_s",
)


@cache
def cluster_names() -> list[str]:
    """The shipped clusters that are not this machine, those of the GPUs' maker first."""
    folder = files("configs").joinpath("cluster")
    names = [path.name.removesuffix(".yaml") for path in folder.iterdir()]
    shown = [name for name in names if not name.startswith(("local", "_"))]
    return sorted(shown, key=lambda name: (not name.startswith(MAKERS), name.lower()))


@cache
def clusters_of_gpus() -> dict[str, str]:
    """Every GPU of the shipped cluster files and the first file that has it."""
    found: dict[str, str] = {}
    for name in cluster_names():
        cluster = figures_of(name)
        found.setdefault(str(cluster["gpu"]), name)
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
    _require_figures(cluster, known[_nearest(cluster.gpu, list(known))])
    _require_own_figures(cluster, known)
    _require_software(cluster)
    return Machine.of(cluster)


def _require_figures(cluster: ClusterConfig, near: str) -> None:
    """All that are missing are told at once, with those of the shipped cluster `near`."""
    missing = [name for name in FIGURES if getattr(cluster, name) is None]
    given = [override(f"cluster.{name}", None) for name in missing]
    nearest = [override(f"cluster.{name}", figures_of(near)[name]) for name in missing]
    if not {"bf16", "fp16"} & set(cluster.peak_tflops):
        given.append(f"cluster.peak_tflops={_braced(cluster.peak_tflops)}")
        nearest.append(f"cluster.peak_tflops={_braced(figures_of(near)['peak_tflops'])}")
    if given:
        these = "these figures" if len(given) > 1 else "this figure"
        peak = ", a peak of bf16 or fp16 among them" if len(given) > len(missing) else ""
        raise InputError(
            f"{listed(given, apart=' ')}: a plan needs {these}{peak}; nearest: "
            f"{listed(nearest, apart=' ')} (of cluster={near})"
        )


def _braced(peaks: dict[str, float]) -> str:
    return "{" + ",".join(f"{name}:{peak}" for name, peak in peaks.items()) + "}"


def _require_own_figures(cluster: ClusterConfig, known: dict[str, str]) -> None:
    """Detects a changed name with the figures of another GPU."""
    assert cluster.gpu is not None
    home = known.get(cluster.gpu)
    if home is None or cluster.memory_gb_s == figures_of(home)["memory_gb_s"]:
        return
    others = [
        name for name in known.values() if cluster.memory_gb_s == figures_of(name)["memory_gb_s"]
    ]
    if others:
        raise InputError(
            f"cluster.gpu={cluster.gpu}: the other figures are those of cluster={others[0]}; "
            f"nearest: cluster={home}"
        )


@cache
def figures_of(name: str) -> dict[str, Any]:
    """The settings of a shipped cluster's file."""
    text = files("configs").joinpath("cluster", f"{name}.yaml").read_text(encoding="utf-8")
    figures: dict[str, Any] = yaml.safe_load(text)
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
