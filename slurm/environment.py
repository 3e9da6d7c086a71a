"""SLURM's environment variables in a job's processes, in all their formats.

Imports no torch. Every function takes the environment, so that tests need no SLURM.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

from configs.errors import InputError
from slurm.commands import hostnames

_REPEATED = re.compile(r"(\d+)(?:\(x(\d+)\))?")


def nodes(environment: Mapping[str, str]) -> int | None:
    """The job's number of nodes; None if unknown."""
    for name in ("SLURM_JOB_NUM_NODES", "SLURM_NNODES"):
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    named = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST", "")
    if named:
        return len(expanded(named))
    tasks = tasks_per_node(environment)
    return len(tasks) or None


def gpus_per_node(environment: Mapping[str, str]) -> int | None:
    """Parses `4`, `a100:4` and `a100:2,h100:2`; None if no GPUs were requested, or unknown."""
    asked = re.sub(r"\([^)]*\)", "", environment.get("SLURM_GPUS_PER_NODE", ""))  # of sockets
    if asked:
        counts = [part.rpartition(":")[2] for part in asked.split(",")]
        return sum(int(each) if each.isdecimal() else 1 for each in counts)
    here = environment.get("SLURM_GPUS_ON_NODE", "")
    return int(here) if here.isdecimal() else None


def tasks_per_node(environment: Mapping[str, str]) -> list[int]:
    """Tasks of each node: `4(x2),3` is 4, 4 and 3. Empty if unknown."""
    said = environment.get("SLURM_TASKS_PER_NODE") or environment.get("SLURM_NTASKS_PER_NODE", "")
    counts: list[int] = []
    for part in said.split(",") if said else ():
        match = _REPEATED.fullmatch(part.strip())
        if match is None:
            return []
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def expanded(named: str) -> list[str]:
    """Expands node[1-3,07],login to single names; with SLURM's own tool if available."""
    try:
        found = hostnames(named)
    except InputError:  # no scontrol here
        found = []
    return found or [name for part in _parts(named) for name in _names(part)]


def _parts(named: str) -> list[str]:
    """Splits at the commas outside brackets."""
    return [part for part in re.split(r",(?![^\[]*\])", named) if part]


def _names(part: str) -> list[str]:
    match = re.search(r"\[([^\]]*)\]", part)
    if match is None:
        return [part]
    before, after = part[: match.start()], part[match.end() :]
    found = []
    for each in match[1].split(","):
        first, _, last = each.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            return [part]
        for number in range(int(first), int(last or first) + 1):
            found += _names(f"{before}{number:0{len(first)}}{after}")
    return found


def node_name(environment: Mapping[str, str]) -> str:
    """This machine's name, as SLURM's if SLURM gives one."""
    return environment.get("SLURMD_NODENAME") or socket.gethostname()
