"""SLURM's own commands: sbatch, squeue, scontrol, scancel. Imports no torch."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from configs.errors import InputError, RunError
from configs.schema import Chain, LaunchConfig

WITHIN_S = 60
ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
_REACH = " (is this a machine of the cluster? SLURM_CONF says where its settings are)"
_USABLE = {"idle", "mixed", "allocated", "completing", "planned", "reserved"}


def submit(script: Path, launch: LaunchConfig) -> list[int]:
    """Submits the script, several times with `launch.chain=dependency`; returns the job ids.

    Raises InputError with SLURM's own message if it refuses.
    """
    jobs = launch.jobs if launch.chain is Chain.dependency else 1
    numbers: list[int] = []
    for _ in range(jobs):
        after = [f"--dependency=afterany:{numbers[-1]}"] if numbers else []
        numbers.append(_number(_sbatch([*after, str(script)])))
    return numbers


def check(script: Path) -> str:
    """The output of `sbatch --test-only`. Raises InputError if SLURM would refuse the job."""
    return _sbatch(["--test-only", str(script)])


def states(numbers: Sequence[int]) -> dict[int, dict[str, str]]:
    """SLURM's state of jobs, without those it has forgotten.

    Raises InputError if SLURM cannot be reached.
    """
    known = {}
    for number in numbers:
        done = _run(["scontrol", "show", "job", str(number), "--oneliner"])
        if done.returncode and "invalid job id" not in done.stderr.lower():
            raise InputError(f"launch=slurm: {_words(done)}{_REACH}")
        if done.returncode == 0:
            words = (word.split("=", 1) for word in done.stdout.split() if "=" in word)
            known[number] = dict(words)
    return known


def has_ended(number: int) -> bool:
    """Whether SLURM reports that a job has ended; False if SLURM cannot be reached."""
    try:
        known = states([number])
    except InputError:
        return False
    return known.get(number, {}).get("JobState") in ENDED


def hostnames(nodes: str) -> list[str]:
    """Expands node[1-3] to single names, in order; empty if SLURM cannot."""
    done = _run(["scontrol", "show", "hostnames", nodes]) if nodes else None
    return done.stdout.split() if done is not None and done.returncode == 0 else []


def usable_nodes(partition: str | None) -> list[str]:
    """The nodes of a partition that are neither down nor draining."""
    of = ["--partition", partition] if partition else []
    done = _run(["sinfo", "--noheader", "--Node", "--responding", *of, "--format=%N %T"])
    if done.returncode:
        raise RunError(f"sinfo: {_words(done)}")
    said = [line.split() for line in done.stdout.splitlines()]
    return sorted({name for name, state in said if state.rstrip("*$~#%@^-+!") in _USABLE})


def show_nodes() -> str:
    """What `scontrol show node` says, a line for each node. Raises InputError if it cannot."""
    return _asked(["scontrol", "show", "node", "--oneliner"])


def show_partitions() -> list[str]:
    """The partitions, the default one with a star. Raises InputError if SLURM cannot be reached."""
    return _asked(["sinfo", "--noheader", "--format=%P"]).split()


def leave_out(job: int, nodes: str) -> None:
    """Excludes these nodes from a pending job; a running job cannot be changed."""
    _run(["scontrol", "update", f"JobId={job}", f"ExcNodeList={nodes}"])


def cancel(numbers: Sequence[int]) -> None:
    """Cancels the jobs. Raises RunError with SLURM's own message if scancel fails."""
    done = _run(["scancel", *map(str, numbers)])
    if done.returncode:
        raise RunError(f"scancel: {_words(done)}")


def _asked(command: list[str]) -> str:
    done = _run(command, "cluster.from=slurm", "cluster.from=nvidia-smi, or cluster=NAME")
    if done.returncode:
        raise InputError(f"cluster.from=slurm: {_words(done)}{_REACH}")
    return done.stdout


def _sbatch(arguments: list[str]) -> str:
    done = _run(["sbatch", *arguments])
    if done.returncode:
        words = _words(done)
        unreachable = re.search("resolve_ctls|contact slurm controller|fetch_config", words)
        hint = _REACH if unreachable else ""
        raise InputError(f"launch=slurm: {words}{hint}; the script is {arguments[-1]}")
    return f"{done.stdout}{done.stderr}".strip()


def _number(said: str) -> int:
    match = re.search(r"Submitted batch job (\d+)", said)
    if match is None:
        raise RunError(f"sbatch said {said!r}, which names no job")
    return int(match[1])


def _run(
    command: list[str],
    asked: str = "launch=slurm",
    instead: str = "launch.submit=false, which writes the script, or launch=local",
) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        raise InputError(f"{asked}: there is no {command[0]} here; nearest: {instead}")
    try:
        return subprocess.run(
            command, text=True, capture_output=True, timeout=WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        said = f"no answer within {WITHIN_S} s"
        return subprocess.CompletedProcess(command, returncode=1, stdout="", stderr=said)


def _words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stderr or done.stdout).split())
