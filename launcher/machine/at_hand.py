"""`cluster.from`: the cluster that a program describes, with the figures of its GPU.

`from` is a word of Python, so the field is `from_`; `configs.load` says how they are translated. It
is typed `cluster.from` everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from configs.settings.planning import ClusterConfig
from configs.words import listed
from launcher.machine.from_nvidia_smi import PROGRAM as NVIDIA_SMI
from launcher.machine.from_nvidia_smi import from_nvidia_smi
from launcher.machine.from_slurm import PROGRAM as SLURM
from launcher.machine.from_slurm import from_slurm
from launcher.machine.names import cluster_of, family_of, near_clusters
from launcher.machine.said import Said
from parallel.planner.inputs.cluster import clusters_of_gpus, figures_of

PROGRAMS = (SLURM, NVIDIA_SMI)
BORROWED = (
    "memory_gib",
    "link_gb_s",
    "network_gb_s",
    "dollars_per_hour",
    "node_watts",
    "link_gpus",
)
"""Figures of a shipped machine that another one with such a GPU need not have."""


@dataclass(frozen=True, slots=True)
class AtHand:
    """A cluster to plan for, and where each of its settings is from."""

    cluster: ClusterConfig
    program: str
    like: str  # the shipped cluster whose figures it has
    sources: dict[str, str]  # by setting
    notes: tuple[str, ...]


def at_hand(run: Run, typed: Sequence[str]) -> AtHand:
    """Asks the program that `cluster.from` names.

    Figures of the GPU are those of the cluster that was chosen, else of the shipped one that has
    it; settings that were typed stay.

    Args:
        typed: the names of the settings of the command line.

    Raises InputError if the program does not answer, or the GPU is not known.
    """
    asked = (run.cluster.from_ or "").replace("_", "-")
    if asked not in PROGRAMS:
        near = difflib.get_close_matches(asked, PROGRAMS, n=1, cutoff=0.0)[0]
        raise InputError(
            f"{override('cluster.from', run.cluster.from_)}: takes {listed(PROGRAMS, apart=' or ')}"
            f"; nearest: cluster.from={near}"
        )
    said = from_slurm(run, set(typed)) if asked == SLURM else from_nvidia_smi()
    like = _like(run, said)
    base = run.cluster
    if not base.peak_tflops:  # no machine was chosen
        base = replace(ClusterConfig(**figures_of(like)), **_typed(base, typed))
    return _joined(base, said, like, typed)


def _typed(cluster: ClusterConfig, typed: Sequence[str]) -> dict[str, Any]:
    names = {name.split(".")[1].split(".")[0] for name in typed if name.startswith("cluster.")}
    held = {field.name for field in fields(cluster)} - {"from_"}
    return {name: getattr(cluster, name) for name in names & held}


def _like(run: Run, said: Said) -> str:
    """The cluster that has the GPU's figures."""
    asked, chosen = override("cluster.from", said.program), run.cluster
    if chosen.gpu is not None:
        if said.gpu is not None and family_of(said.gpu) != family_of(chosen.gpu):
            near = near_clusters(said.gpu)
            instead = f"cluster={near[0]} {asked}" if near else asked
            raise InputError(
                f"cluster={chosen.name} {asked}: it has {said.gpu}, not {chosen.gpu}; nearest: "
                f"{instead}"
            )
        return chosen.name if chosen.peak_tflops else clusters_of_gpus().get(chosen.gpu, "local")
    if said.gpu is None:
        raise InputError(
            f"{asked}: which GPU the nodes of {said.name} have is not said (Gres=gpu:"
            f"{said.gpus_per_node}); nearest: cluster=NAME {asked}, with NAME as in "
            "`phalanx help cluster`"
        )
    found = cluster_of(said.gpu, said.memory_gib)
    if found is not None:
        return found
    of_memory = "" if said.memory_gib is None else f" of {said.memory_gib:g} GiB"
    near = near_clusters(said.gpu)
    if near:
        why = "is none of the planner's GPUs" if len(near) == 1 else "may be one of several"
        choices = [f"cluster={name} {asked}" for name in near]
        raise InputError(
            f"{asked}: {said.gpu}{of_memory} {why}; nearest, with the figures of that machine: "
            f"{listed(choices, apart=' or ')}"
        )
    known = clusters_of_gpus()
    gpu = difflib.get_close_matches(said.gpu, list(known), n=1, cutoff=0.0)[0]
    raise InputError(
        f"{asked}: the planner does not know {said.gpu}{of_memory}; nearest: "
        f"cluster={known[gpu]} (cluster.gpu={gpu})"
    )


def _joined(base: ClusterConfig, said: Said, like: str, typed: Sequence[str]) -> AtHand:
    """The figures of `base` with what the program said, less what was typed."""
    found: dict[str, Any] = {
        "name": said.name,
        "nodes": said.nodes,
        "gpus_per_node": said.gpus_per_node,
        "memory_gib": said.memory_gib,
        "link_gb_s": said.link_gb_s,
    }
    given = _typed(base, typed)
    found = {name: value for name, value in found.items() if value is not None}
    new = {**found, **given, "from_": None}
    per_node = new["gpus_per_node"]
    if per_node != base.gpus_per_node and "node_watts" not in given:
        new["node_watts"] = None  # of another machine
    if base.link_gpus is not None and base.link_gpus % per_node and "link_gpus" not in given:
        new["link_gpus"] = None
    cluster = replace(base, **new)
    sources = {
        field.name: _source(field.name, cluster, given, found, said, like)
        for field in fields(cluster)
        if field.name != "from_"
    }
    borrowed = [
        name
        for name in BORROWED
        if sources[name] == f"of cluster={like}"
        and not (name == "link_gb_s" and said.program == NVIDIA_SMI)  # it told of NVLink
    ]
    notes = [*said.notes]
    if borrowed:
        notes.append(f"not known of {said.name}, and taken from cluster={like}: {listed(borrowed)}")
    if said.gpu is not None and cluster_of(said.gpu, said.memory_gib) is None:
        notes.append(f"{said.gpu} may do less than {cluster.gpu}, whose figures these are")
    return AtHand(cluster, said.program, like, sources, tuple(notes))


def _source(
    name: str,
    cluster: ClusterConfig,
    given: dict[str, Any],
    found: dict[str, Any],
    said: Said,
    like: str,
) -> str:
    if name in given:
        return "as typed"
    if name in found:
        return f"as {said.program} says"
    if name == "gpu" and said.gpu is not None:
        return f"{said.program} says {said.gpu}"
    return "" if getattr(cluster, name) is None else f"of cluster={like}"
