"""What SLURM knows of nodes: their GPUs, partitions and states. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from configs.errors import InputError
from configs.words import listed
from slurm.commands import show_nodes, show_partitions

_GRES = re.compile(r"gpu(?::(?P<kind>[^:,()]*[^:,()\d][^:,()]*))?(?::(?P<count>\d+))?(?:\(|$)")
_OUT = {"DOWN", "DRAIN", "FAIL", "FAILING", "MAINT", "NOT_RESPONDING", "UNKNOWN"}


@dataclass(frozen=True, slots=True)
class Node:
    """A node as `scontrol show node` describes it."""

    name: str
    gpus: int
    kind: str | None  # of its GPUs, as gres.conf calls them; None: it does not say, or has none
    usable: bool  # neither down nor draining
    partitions: tuple[str, ...]


def nodes_in(said: str) -> list[Node]:
    """The nodes in the text of `scontrol show node --oneliner`."""
    return [_node(line) for line in said.splitlines() if line.startswith("NodeName=")]


def _node(line: str) -> Node:
    def value(key: str) -> str:
        found = re.search(rf"(?:^| ){key}=(\S*)", line)
        return found[1] if found else ""

    gpus, kinds = 0, []
    for item in re.split(r",(?![^(]*\))", value("Gres")):
        found = _GRES.match(item)
        if found:
            gpus += int(found["count"] or 1)
            kinds.append(found["kind"])
    named = {kind for kind in kinds if kind}
    return Node(
        name=value("NodeName"),
        gpus=gpus,
        kind=" and ".join(sorted(named)) or None,
        usable=not _OUT & set(re.split(r"[+*~#$%@^!-]", value("State"))),
        partitions=tuple(filter(None, value("Partitions").split(","))),
    )


def nodes_of(partition: str | None) -> tuple[str, list[Node]]:
    """The nodes with GPUs of a partition, or of the default one, and its name.

    Raises InputError if there is none: no such partition, no default, no GPU in it.
    """
    names = show_partitions()
    default = next((name.rstrip("*") for name in names if name.endswith("*")), None)
    known = [name.rstrip("*") for name in names]
    with_gpus = [node for node in nodes_in(show_nodes()) if node.gpus]
    of = {name: [node for node in with_gpus if name in node.partitions] for name in known}
    others = [name for name in known if of[name]]
    if partition is not None:
        others.sort(key=lambda name: -SequenceMatcher(None, name, partition).ratio())
        others = others[: 1 if partition not in known else None]
    choices = [f"launch.partition={name}" for name in others] or ["cluster=NAME"]
    nearest = listed(choices[:3], apart=" or ")
    if partition is not None and partition not in known:
        raise InputError(
            f"launch.partition={partition}: SLURM has {listed(known)}; nearest: {nearest}"
        )
    chosen = partition or default
    if chosen is None:
        raise InputError(
            f"cluster.from=slurm: no partition of {listed(known)} is the default; "
            f"nearest: {nearest}"
        )
    if not of[chosen]:
        which = f"launch.partition={chosen}" if partition else f"{chosen}, the default partition,"
        raise InputError(
            f"cluster.from=slurm: {which} has no node with a GPU (Gres=gpu); nearest: {nearest}"
        )
    return chosen, of[chosen]
