"""What a way of starting ranks is: checked, started, asked after, taken back.

A new launcher is a class of this shape in a file of this folder, and a line in registry.py.
"""

from __future__ import annotations

from typing import Protocol

from rich.console import Console

from launcher.run.resolve import ResolvedRun
from launcher.run.run_dir import RunFolder


class Launcher(Protocol):
    """Starts the ranks of a run, on this machine or elsewhere."""

    waits: bool
    """Whether `start` lasts as long as the ranks do; else they take the run directory over."""

    def validate(self, plan: ResolvedRun, folder: RunFolder) -> None:
        """Raises InputError for what would keep the ranks from starting, before anything is
        written. What settings alone decide is for `parallel.rules`.
        """
        ...

    def describe(self, plan: ResolvedRun, folder: RunFolder) -> list[str]:
        """How the ranks would be started: a line that says it, then the script or the commands."""
        ...

    def start(self, plan: ResolvedRun, folder: RunFolder, console: Console) -> None:
        """Starts the ranks of a run whose directory has been written.

        Raises InputError or RunError with the words of what has failed.
        """
        ...

    def status(self, folder: RunFolder) -> list[str]:
        """Lines of `phalanx status` about what it started for a run; none where it did not."""
        ...

    def cancel(self, folder: RunFolder) -> str | None:
        """Has the ranks save and end; says what was told to. None: it started none for this run.

        Raises InputError where all that it started have ended.
        """
        ...


def counted_ranks(plan: ResolvedRun) -> str:
    """The ranks of a run, as a user reads it."""
    ranks = plan.layout.world_size
    return "1 rank" if ranks == 1 else f"{ranks} ranks"
