"""Where a rank stands: its step and what it does, readable by others even once it is dead.

Kept in a file of its node's own memory: a note is a copy of some bytes without a system call, and
outlives the process whatever ended it. Imports no torch.
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

VARIABLE = "PHALANX_RANK_STATUS"  # the folder, which whoever starts the ranks makes
_SIZE = 256


@dataclass(frozen=True, slots=True)
class Status:
    """The step a rank is in, and what it is doing."""

    step: int | None  # None: before the first
    phase: str  # what it does, in words

    def __str__(self) -> str:
        return f"{self.phase}, " + ("before a step" if self.step is None else f"step {self.step}")


class RankStatus:
    """One rank's own, as far as it is in a run."""

    def __init__(self) -> None:
        self.status = Status(None, "starting")
        self._memory: mmap.mmap | None = None

    def open(self, rank: int) -> None:
        """From now on the place is kept where others find it, if there is such a folder."""
        folder = os.environ.get(VARIABLE)
        if folder is None:
            return
        path = Path(folder) / str(rank)
        path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        self.note(self.status.phase)

    def note(self, phase: str, step: int | None = None) -> None:
        """`step` None: the same as before."""
        self.status = Status(self.status.step if step is None else step, phase)
        if self._memory is not None:
            text = json.dumps(asdict(self.status)).encode()[:_SIZE]
            self._memory[: len(text) + 1] = text + b"\0"

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Notes the phase, and the one before it again at the block's end."""
        before = self.status.phase
        self.note(phase)
        yield
        self.note(before)


current_status = RankStatus()
"""Of this process."""


@contextmanager
def kept_on_this_node() -> Iterator[Path]:
    """The folder for the ranks that are started meanwhile."""
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
    """Containers may share this memory and not the numbers of their processes."""
    numbers = Path("/proc/self/ns/pid")
    return f"phalanx-ranks-{numbers.stat().st_ino if numbers.exists() else 0}-"


def _clear_those_of_the_dead(parent: Path) -> None:
    """Of launchers of ours that were killed. Others may leave there what they like."""
    for folder in parent.glob(f"{_prefix()}*-*"):
        number = folder.name.removeprefix(_prefix()).split("-")[0]
        if number.isdecimal() and _is_ours(folder) and not Path(f"/proc/{number}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        return folder.lstat().st_uid == os.getuid()
    except OSError:  # gone by now
        return False


def owner() -> int | None:
    """The process that keeps this rank's folder, and has started it."""
    folder = os.environ.get(VARIABLE)
    return None if folder is None else _owner(Path(folder))


def _owner(folder: Path) -> int:
    return int(folder.name.removeprefix(_prefix()).split("-")[0])


def known_ranks(folder: Path) -> list[int]:
    """The ranks of this node that have come as far as to say where they are."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def last_status(folder: Path, rank: int) -> Status | None:
    """Where a rank of this node stood last."""
    try:
        return Status(**json.loads((folder / str(rank)).read_bytes().split(b"\0")[0]))
    except (OSError, ValueError, TypeError):
        return None
