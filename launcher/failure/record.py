"""The note that a failing rank leaves: which rank, where, in what phase, and why.

Imports no torch.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
import traceback
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from configs.atomic import write_atomic
from configs.errors import InputError, RunError
from launcher.failure.heartbeat import Status, current_status, known_ranks, last_status
from slurm.environment import node_name

_LOST_PEER = re.compile(
    r"connection closed by peer|connection reset by peer|broken pipe|connection refused"
    r"|socket closed|timed out waiting|ran for \d+ milliseconds|nccl.*(remote|aborted|timeout)"
    r"|connectFullMesh|failed to recv|failed to connect",
    re.IGNORECASE,
)
_WAITED_MS = re.compile(r"timed out waiting (\d+)ms|ran for (\d+) milliseconds", re.IGNORECASE)
"""As worded by gloo and NCCL."""


class FailureKind(StrEnum):
    """The kinds of failure; `launcher.failure.report` maps each to its consequence."""

    settings = "settings"
    loss = "loss"
    disk = "disk"
    memory = "memory"
    node = "node"  # one of its devices, disks or links
    hang = "hang"
    killed = "killed"
    lost = "lost"  # ranks that left no note
    code = "code"  # anything else


_BY_WORDS = (
    (FailureKind.loss, r"^step \d+: loss"),
    (FailureKind.disk, r"no space left|disk quota|the disk of .* is full"),
    (FailureKind.memory, r"out of memory|OutOfMemoryError|can't allocate memory|^MemoryError"),
    (
        FailureKind.node,
        r"computes wrongly|is not the directory that rank 0 sees|all-reduce over .* added up"
        r"|uncorrectable|\bECC\b|\bXid\b|unspecified launch failure|no CUDA-capable device"
        r"|CUDA driver|CUDA error: (unknown|hardware)|NVML|Input/output error"
        r"|Read-only file system|Stale file handle|Triton needs",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A rank's note about its own failure, or its node's agent's note about it."""

    rank: int
    message: str
    kind: FailureKind = FailureKind.code
    lost_peer: bool = False  # it failed because another rank had
    time: float = 0.0
    node: str = ""
    place: str = ""  # phase and step
    traceback: str = ""
    ended_by: str = ""  # the signal's name
    waited_s: float = 0.0  # if the rank gave up waiting for the others
    waits_in: str = ""  # collectives in progress, and the line of code

    @property
    def of_input(self) -> bool:
        """Whether invalid settings caused it."""
        return self.kind is FailureKind.settings

    @classmethod
    def of_this_process(
        cls,
        rank: int,
        message: str,
        kind: FailureKind = FailureKind.code,
        *,
        lost_peer: bool,
        waited_s: float = 0.0,
        waits_in: str = "",
        text: str = "",
        ended_by: str = "",
    ) -> Failure:
        """A failure of this process, now."""
        return cls(
            rank=rank,
            message=message,
            kind=kind,
            lost_peer=lost_peer,
            time=time.time(),
            node=node_name(os.environ),
            place=str(current_status.status),
            traceback=text,
            ended_by=ended_by,
            waited_s=waited_s,
            waits_in=waits_in,
        )

    @classmethod
    def of(cls, rank: int, error: BaseException, waits_in: str = "") -> Failure:
        """This process's failure from its exception: the kind, and whether a peer was lost."""
        known = isinstance(error, InputError | RunError)
        text = " ".join(str(error).split()) if not isinstance(error, InputError) else str(error)
        text = text if known else f"{type(error).__name__}: {text}"
        of_input = isinstance(error, InputError)
        lost_peer = not of_input and _LOST_PEER.search(text) is not None
        return cls.of_this_process(
            rank,
            text,
            FailureKind.settings if of_input else kind_of(text),
            lost_peer=lost_peer,
            waited_s=_waited_s(text) if lost_peer else 0.0,
            waits_in=waits_in if lost_peer else "",
            text="".join(traceback.format_exception(error)),
        )


def _waited_s(message: str) -> float:
    """How long a collective waited before it timed out."""
    said = _WAITED_MS.search(message)
    return int(said[1] or said[2]) / 1000 if said else 0.0


def kind_of(message: str) -> FailureKind:
    """Classifies the message of an error that settings did not cause."""
    for kind, words in _BY_WORDS:
        if re.search(words, message, re.IGNORECASE):
            return kind
    return FailureKind.code


def oom_kills() -> int | None:
    """The number of processes that this machine's OOM killer has ended; None if unknown."""
    try:
        match = re.search(r"^oom_kill (\d+)", Path("/proc/vmstat").read_text("ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) if match else None


def note_for_others(
    logs: Path, codes: Mapping[int, int], statuses: Path, oom_before: int | None
) -> None:
    """Writes notes for ranks of this node that could not write their own.

    Args:
        codes: exit statuses by rank of those that ended first; negative for a signal.
        statuses: the folder of their statuses, which holds their last phase.
        oom_before: `oom_kills` when they started.
    """
    for rank in sorted({*known_ranks(statuses), *codes}):
        if note_path(logs, rank).exists():
            continue
        code = codes.get(rank, 0)
        message, kind, ended_by = "left no message", FailureKind.lost, ""
        # The agent itself sends SIGTERM to the remaining ranks.
        if code < 0 and code != -signal.SIGTERM:
            ended_by = signal.Signals(-code).name
            message, kind = f"was ended by {ended_by}", FailureKind.killed
            if -code == signal.SIGKILL and oom_kills() != oom_before:
                message, kind = f"{message}: the kernel had no memory left", FailureKind.memory
        elif code:
            message = f"ended with exit status {code} and left no message"
        failure = Failure(
            rank=rank,
            message=message,
            kind=kind,
            time=time.time(),
            node=node_name(os.environ),
            place=str(last_status(statuses, rank) or Status(None, "starting")),
            ended_by=ended_by,
        )
        leave_note(logs, failure)


def note_path(logs: Path, rank: int) -> Path:
    """The path of a rank's note."""
    return logs / f"failure_rank_{rank}.json"


def leave_note(logs: Path, failure: Failure) -> None:
    """Writes the rank's note, replacing an earlier one."""
    write_atomic(note_path(logs, failure.rank), json.dumps(asdict(failure)))


def clear_notes(logs: Path) -> None:
    """Deletes the notes of an earlier start."""
    for path in logs.glob("failure_rank_*.json"):
        path.unlink()


def read_notes(logs: Path) -> list[Failure]:
    """The notes of all ranks that left one, without those that cannot be read."""
    notes = []
    for path in logs.glob("failure_rank_*.json"):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            notes.append(Failure(**{**said, "kind": FailureKind(said["kind"])}))
        except (ValueError, TypeError, KeyError):
            continue
    return notes


def silent_ranks(notes: Collection[Failure], ranks: int) -> list[int]:
    """The ranks that left no note, in order."""
    return sorted(set(range(ranks)) - {note.rank for note in notes})
