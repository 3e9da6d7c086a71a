"""The nodes of a partition of SLURM's."""

from __future__ import annotations

from collections import Counter

from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from configs.words import counted, listed
from launcher.machine.names import cluster_of, family_of
from launcher.machine.said import Said
from slurm.nodes import Node, nodes_of

PROGRAM = "slurm"


def from_slurm(run: Run, typed: set[str]) -> Said:
    """The nodes of `launch.partition`, or of the default one, that have GPUs.

    Where they differ, what was typed chooses: cluster=NAME by its GPU, or cluster.gpus_per_node.

    Raises InputError if SLURM does not answer, or the nodes still differ.
    """
    partition, nodes = nodes_of(run.launch.partition)
    wanted = run.cluster.gpu
    fitting = [
        node
        for node in nodes
        if ("cluster.gpus_per_node" not in typed or node.gpus == run.cluster.gpus_per_node)
        and (wanted is None or node.kind is None or family_of(node.kind) == family_of(wanted))
    ]
    if not fitting:
        raise InputError(
            f"cluster={run.cluster.name} cluster.from=slurm: partition {partition} has "
            f"{_kinds(nodes)}; nearest: {listed(_choices(nodes), apart=' or ')}"
        )
    if len({(node.kind, node.gpus) for node in fitting}) > 1:
        raise InputError(
            f"cluster.from=slurm: the nodes of partition {partition} differ: {_kinds(fitting)}; "
            f"nearest: {listed(_choices(fitting), apart=' or ')}"
        )
    out = [node.name for node in fitting if not node.usable]
    notes = [] if run.launch.partition else [f"partition {partition} is SLURM's default"]
    if out:
        are = "is" if len(out) == 1 else "are"
        notes.append(f"{listed(out)} {are} down or draining now, and counted")
    return Said(
        program=PROGRAM,
        name=partition,
        nodes=len(fitting),
        gpus_per_node=fitting[0].gpus,
        gpu=fitting[0].kind,
        notes=tuple(notes),
    )


def _kinds(nodes: list[Node]) -> str:
    found = Counter((node.gpus, node.kind or "GPUs of no name") for node in nodes)
    return listed(
        [
            f"{counted(count, 'node', 'nodes')} of {gpus} {kind}"
            for (gpus, kind), count in sorted(found.items(), key=lambda item: -item[1])
        ]
    )


def _choices(nodes: list[Node]) -> list[str]:
    """What to type for one kind of node alone."""
    kinds = sorted({node.kind for node in nodes if node.kind})
    clusters = [name for kind in kinds if (name := cluster_of(kind, None))]
    if len(set(clusters)) > 1 or (len(kinds) == 1 and len({node.gpus for node in nodes}) == 1):
        return [f"cluster={name} cluster.from=slurm" for name in dict.fromkeys(clusters)]
    counts = sorted({node.gpus for node in nodes}, reverse=True)
    return [override("cluster.gpus_per_node", count) for count in counts]
