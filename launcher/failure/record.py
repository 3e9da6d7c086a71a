"""What a rank leaves behind when it fails: a note of which rank, where, doing what, and why.

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
"""As gloo and NCCL say it."""


class FailureKind(StrEnum):
    """Of what a run fails; what follows from it is in `launcher.failure.report`."""

    settings = "settings"
    loss = "loss"
    disk = "disk"
    memory = "memory"
    node = "node"  # a device, a disk or a link of it
    hang = "hang"
    killed = "killed"
    lost = "lost"  # ranks that left no word
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
        r"|Read-only file system|Stale file handle",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a rank says of its own end, or what its node's agent says of it."""

    rank: int
    message: str
    kind: FailureKind = FailureKind.code
    lost_peer: bool = False  # it failed because another had
    time: float = 0.0
    node: str = ""
    place: str = ""  # phase and step
    traceback: str = ""
    ended_by: str = ""  # the signal's name
    waited_s: float = 0.0  # of a rank that gave up waiting for the others
    waits_in: str = ""  # collectives under way, and the line of code

    @property
    def of_input(self) -> bool:
        """Whether wrong settings caused it."""
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
    ) -> Failure:
        """Of this process, now."""
        return cls(
            rank=rank,
            message=message,
            kind=kind,
            lost_peer=lost_peer,
            time=time.time(),
            node=node_name(os.environ),
            place=str(current_status.status),
            traceback=text,
            waited_s=waited_s,
            waits_in=waits_in,
        )

    @classmethod
    def of(cls, rank: int, error: BaseException, waits_in: str = "") -> Failure:
        """Of this process, by what it raised: what kind of failure, and whether a peer was lost."""
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
    """How long a collective waited that gave up by itself."""
    said = _WAITED_MS.search(message)
    return int(said[1] or said[2]) / 1000 if said else 0.0


def kind_of(message: str) -> FailureKind:
    """By the words of an error that is not one of the settings."""
    for kind, words in _BY_WORDS:
        if re.search(words, message, re.IGNORECASE):
            return kind
    return FailureKind.code


def oom_kills() -> int | None:
    """How many processes of this machine the kernel has ended for their memory; None: not known."""
    try:
        match = re.search(r"^oom_kill (\d+)", Path("/proc/vmstat").read_text("ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) if match else None


def note_for_others(
    logs: Path, codes: Mapping[int, int], statuses: Path, oom_before: int | None
) -> None:
    """For ranks of this node that could leave no note themselves.

    Args:
        codes: exit statuses by rank, negative for a signal, of those that ended first.
        statuses: the folder of their statuses, which says what they did last.
        oom_before: `oom_kills` when they began.
    """
    for rank in sorted({*known_ranks(statuses), *codes}):
        if note_path(logs, rank).exists():
            continue
        code = codes.get(rank, 0)
        message, kind, ended_by = "left no word", FailureKind.lost, ""
        # SIGTERM is the agent's own, sent to the ranks that were left.
        if code < 0 and code != -signal.SIGTERM:
            ended_by = signal.Signals(-code).name
            message, kind = f"was ended by {ended_by}", FailureKind.killed
            if -code == signal.SIGKILL and oom_kills() != oom_before:
                message, kind = f"{message}: the kernel had no memory left", FailureKind.memory
        elif code:
            message = f"ended with exit status {code} and left no word"
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
    """Where a rank leaves its note."""
    return logs / f"failure_rank_{rank}.json"


def leave_note(logs: Path, failure: Failure) -> None:
    """Writes the rank's note, replacing an earlier one."""
    write_atomic(note_path(logs, failure.rank), json.dumps(asdict(failure)))


def clear_notes(logs: Path) -> None:
    """Deletes the notes of an earlier start."""
    for path in logs.glob("failure_rank_*.json"):
        path.unlink()


def read_notes(logs: Path) -> list[Failure]:
    """The notes of all ranks that left one; those that cannot be read are left out."""
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
