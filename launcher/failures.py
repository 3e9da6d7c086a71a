"""Who failed first: each rank leaves a note of its end, the launcher finds the one that matters.

When one rank dies the others lose their connections within milliseconds and fail too. A rank that
lost a connection is a consequence; one that raised anything else, or was killed, is a cause.
"""

from __future__ import annotations

import json
import re
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.errors import InputError, RunError

_LOST_PEER = re.compile(
    r"connection closed by peer|connection reset by peer|broken pipe|connection refused"
    r"|socket closed|timed out waiting|nccl.*(remote|aborted|timeout)|connectFullMesh"
    r"|failed to recv|failed to connect",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a rank says of its own end."""

    rank: int
    message: str
    of_input: bool
    lost_peer: bool
    time: float
    traceback: str
    waited: str = ""  # how long and in what, of a rank that gave up waiting for the others
    ranks: int = 0  # in the world, where it waited

    @classmethod
    def of(cls, rank: int, error: BaseException) -> Failure:
        known = isinstance(error, InputError | RunError)
        text = " ".join(str(error).split()) if not isinstance(error, InputError) else str(error)
        return cls(
            rank=rank,
            message=text if known else f"{type(error).__name__}: {text}",
            of_input=isinstance(error, InputError),
            lost_peer=_LOST_PEER.search(text) is not None and not isinstance(error, InputError),
            time=time.time(),
            traceback="".join(traceback.format_exception(error)),
        )


def note_path(logs: Path, rank: int) -> Path:
    return logs / f"failure_rank_{rank}.json"


def leave_note(logs: Path, failure: Failure) -> None:
    note_path(logs, failure.rank).write_text(json.dumps(asdict(failure)), encoding="utf-8")


def clear_notes(logs: Path) -> None:
    for path in logs.glob("failure_rank_*.json"):
        path.unlink()


def read_notes(logs: Path) -> list[Failure]:
    notes = []
    for path in logs.glob("failure_rank_*.json"):
        try:
            notes.append(Failure(**json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError):  # the rank was killed while it wrote
            continue
    return notes


def _hang(notes: list[Failure]) -> str:
    """The ranks that did not answer are those that did not wait and lost no one."""
    waited = min((note for note in notes if note.waited), key=lambda note: note.time)
    silent = sorted(set(range(waited.ranks)) - {note.rank for note in notes if note.lost_peer})
    if not silent:
        return f"all ranks waited for each other, {waited.waited}"
    names = f"rank {silent[0]}" if len(silent) == 1 else f"ranks {', '.join(map(str, silent))}"
    return f"{names} did not answer: rank {waited.rank} waited {waited.waited}"


def first_cause(notes: list[Failure], exit_codes: Mapping[int, int]) -> InputError | RunError:
    """The one line to tell: the first rank that failed of itself.

    Args:
        notes: what ranks wrote.
        exit_codes: by rank, of those that ended before the launcher stopped the others; negative
            for a signal.
    """
    causes = sorted((n for n in notes if not n.lost_peer), key=lambda n: n.time)
    if any(note.waited for note in notes) and not any(n.of_input for n in causes):
        return RunError(_hang(notes))
    noted = {note.rank for note in notes}
    killed = {r: code for r, code in exit_codes.items() if code < 0 and r not in noted}
    if causes and causes[0].of_input:
        return InputError(causes[0].message)
    if killed and not causes:
        # SIGTERM is mostly the agent's, sent to the ranks that were left.
        rank, code = min(killed.items(), key=lambda item: (item[1] == -signal.SIGTERM, item[0]))
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return RunError(f"rank {rank} was ended by {signal.Signals(-code).name}{hint}")
    if causes:
        return RunError(f"rank {causes[0].rank}: {causes[0].message}")
    if notes:
        first = min(notes, key=lambda n: n.time)
        return RunError(f"rank {first.rank} lost its connection: {first.message}")
    rank, code = min(exit_codes.items(), default=(0, 1))
    return RunError(f"rank {rank} ended with exit status {code} and left no word")
