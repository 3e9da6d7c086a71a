"""Settings needed to start a run: for a job, or torchrun on several nodes."""

from __future__ import annotations

import difflib
import re
import signal
from collections.abc import Iterator

from configs.schema import LaunchName
from parallel.rules.case import Case
from parallel.rules.fault import Fault, Rule
from parallel.rules.nearest import to

_TIME_LIMIT = re.compile(r"(?:(\d+)-(\d+)(?::(\d+))?(?::(\d+))?|(\d+)(?::(\d+))?(?::(\d+))?)")
_UNHEARD = {
    "KILL",
    "STOP",
    "INT",
    "CONT",
    "CHLD",
}  # processes cannot catch these, or they have another meaning


def a_job_knows_its_nodes(case: Case) -> Iterator[Fault]:
    """A SLURM job needs the number of GPUs per node."""
    cluster = case.run.cluster
    if case.run.launch.name is LaunchName.slurm and cluster.gpus_per_node is None:
        each = -(-case.layout.world_size // max(cluster.nodes, 1))
        yield Fault(
            setting="cluster.gpus_per_node",
            why="a job has to know how many ranks each of its nodes runs",
            source="sbatch --nodes, --gpus-per-node",
            fixes=(to({"cluster.gpus_per_node": max(each, 1)}),),
        )


def nodes_find_each_other(case: Case) -> Iterator[Fault]:
    """With torchrun several nodes need an address, and a node's number must be one of theirs."""
    launch = case.run.launch
    if launch.name is not LaunchName.torchrun:
        return
    nodes = case.layout.nodes(case.run.cluster.gpus_per_node)
    if nodes > 1 and launch.address is None:
        yield Fault(
            setting="launch.address",
            why=f"{nodes} nodes have to find each other: it is the first node's name or address",
            source="torchrun --master-addr",
            fixes=(to({"launch.address": "HOST"}),),
        )
    if launch.node is not None and launch.node >= nodes:
        yield Fault(
            setting="launch.node",
            why=f"there are {nodes} nodes, counted from 0",
            source="torchrun --node-rank",
            fixes=(to({"launch.node": nodes - 1}),),
        )


def elastic_nodes_are_some_of_all(case: Case) -> Iterator[Fault]:
    """An elastic run's minimum number of nodes is at most the cluster's."""
    launch, nodes = case.run.launch, case.run.cluster.nodes
    if launch.elastic and launch.min_nodes > nodes >= 1:
        yield Fault(
            setting="launch.min_nodes",
            why=f"the run is asked for on {nodes} nodes (cluster.nodes)",
            source="sbatch --nodes=MIN-MAX",
            fixes=(to({"launch.min_nodes": nodes}),),
        )


def the_warning_can_be_heard(case: Case) -> Iterator[Fault]:
    """`launch.signal` is the name, without SIG, of a signal that a process can catch."""
    name = case.run.launch.signal
    known = {each.name.removeprefix("SIG") for each in signal.Signals} - _UNHEARD
    if name not in known:
        bare = name.upper().removeprefix("SIG")
        close = difflib.get_close_matches(bare, known, n=1) or ["USR1"]
        yield Fault(
            setting="launch.signal",
            why="is no signal that a process may hear, by its name without SIG",
            source="sbatch --signal",
            fixes=(to({"launch.signal": close[0]}),),
        )


def seconds_of(time_limit: str) -> int | None:
    """Parses MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS[:MINUTES[:SECONDS]]."""
    match = _TIME_LIMIT.fullmatch(time_limit)
    if match is None:
        return None
    days, *of_days = match.groups()[:4]
    first, second, third = match.groups()[4:]
    if days is not None:
        hours, minutes, seconds = (int(each or 0) for each in of_days)
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if third is not None:
        return (int(first) * 60 + int(second)) * 60 + int(third)
    return int(first) * 60 + int(second or 0)


def the_time_limit_is_one(case: Case) -> Iterator[Fault]:
    """A job's time limit has one of SLURM's forms and is longer than the grace before it."""
    launch = case.run.launch
    if launch.name is not LaunchName.slurm or launch.time_limit is None:
        return
    seconds = seconds_of(launch.time_limit)
    if seconds is None:
        yield Fault(
            setting="launch.time_limit",
            why="is none of SLURM's forms MINUTES, HOURS:MINUTES:SECONDS, DAYS-HOURS",
            source="sbatch --time",
            fixes=(to({"launch.time_limit": "24:00:00"}),),
        )
    elif 0 < seconds <= launch.grace_s:
        yield Fault(
            setting="launch.time_limit",
            why=f"the run would be told to stop launch.grace_s={launch.grace_s} s before it, at "
            "its start",
            source="sbatch --signal",
            fixes=(
                to({"launch.time_limit": f"{2 * launch.grace_s // 60 + 1}"}),
                to({"launch.grace_s": max(seconds // 2, 1)}),
            ),
        )


RULES: tuple[Rule, ...] = (
    a_job_knows_its_nodes,
    nodes_find_each_other,
    elastic_nodes_are_some_of_all,
    the_warning_can_be_heard,
    the_time_limit_is_one,
)
