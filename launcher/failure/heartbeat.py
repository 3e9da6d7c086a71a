"""Each rank's step and phase, readable by other processes even after the rank dies.

Kept in a file in the node's shared memory: an update copies a few bytes without a system call, and
survives the process however it ended. Imports no torch.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "PHALANX_RANK_STATUS"  # the folder, created by whoever starts the ranks
_SIZE = 256


@dataclass(frozen=True, slots=True)
class Status:
    """A rank's current step and phase."""

    step: int | None  # None: before the first step
    phase: str  # the current activity, in words

    def __str__(self) -> str:
        return f"{self.phase}, " + ("before a step" if self.step is None else f"step {self.step}")


class RankStatus:
    """This rank's step and phase, mirrored to shared memory."""

    def __init__(self) -> None:
        self.status = Status(None, "starting")
        self._memory: mmap.mmap | None = None

    def open(self, rank: int) -> None:
        """Mirrors the status to the shared folder from now on, if there is one."""
        folder = os.environ.get(VARIABLE)
        if folder is None:
            return
        path = Path(folder) / str(rank)
        path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        self.note(self.status.phase)

    def note(self, phase: str, step: int | None = None) -> None:
        """Updates the phase and the step; `step` None keeps the current one."""
        self.status = Status(self.status.step if step is None else step, phase)
        if self._memory is not None:
            text = json.dumps(asdict(self.status)).encode()[:_SIZE]
            self._memory[: len(text) + 1] = text + b"\0"

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Sets the phase inside the block, and restores the previous one after it."""
        before = self.status.phase
        self.note(phase)
        yield
        self.note(before)


current_status = RankStatus()
"""The status of this process."""


@contextmanager
def kept_on_this_node() -> Iterator[Path]:
    """The shared folder for the ranks started inside the block."""
    shared = Path("/dev/shm")
    parent = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    _clear_those_of_the_dead(parent)
    with tempfile.TemporaryDirectory(prefix=f"{_prefix()}{os.getpid()}-", dir=parent) as folder:
        os.environ[VARIABLE] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop(VARIABLE, None)


def _prefix() -> str:
    """A folder prefix: containers may share this memory but not process ids."""
    numbers = Path("/proc/self/ns/pid")
    return f"phalanx-ranks-{numbers.stat().st_ino if numbers.exists() else 0}-"


def _clear_those_of_the_dead(parent: Path) -> None:
    """Deletes folders of launchers that were killed. Other programs may keep files there too."""
    for folder in parent.glob(f"{_prefix()}*-*"):
        number = folder.name.removeprefix(_prefix()).split("-")[0]
        if number.isdecimal() and _is_ours(folder) and not Path(f"/proc/{number}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        return folder.lstat().st_uid == os.getuid()
    except OSError:  # already gone
        return False


def owner() -> int | None:
    """The process that owns this rank's folder and started the rank."""
    folder = os.environ.get(VARIABLE)
    return None if folder is None else _owner(Path(folder))


def _owner(folder: Path) -> int:
    return int(folder.name.removeprefix(_prefix()).split("-")[0])


def known_ranks(folder: Path) -> list[int]:
    """The ranks of this node that have reported a status."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def last_status(folder: Path, rank: int) -> Status | None:
    """The last status of a rank of this node."""
    try:
        return Status(**json.loads((folder / str(rank)).read_bytes().split(b"\0")[0]))
    except (OSError, ValueError, TypeError):
        return None
