"""The interface of a launcher: validate, start, report status, cancel.

A new launcher is a class with this interface in a file of this folder, and a line in registry.py.
"""

from __future__ import annotations

from typing import Protocol

from rich.console import Console

from launcher.run.resolve import ResolvedRun
from launcher.run.run_dir import RunFolder


class Launcher(Protocol):
    """Starts the ranks of a run, on this machine or elsewhere."""

    waits: bool
    """Whether `start` blocks until the ranks end; else the ranks take over the run directory."""

    def validate(self, plan: ResolvedRun, folder: RunFolder) -> None:
        """Raises InputError for whatever would keep the ranks from starting, before anything is
        written. Checks that need only the settings belong in `parallel.rules`.
        """
        ...

    def describe(self, plan: ResolvedRun, folder: RunFolder) -> list[str]:
        """How the ranks would be started: a summary line, then the script or the commands."""
        ...

    def start(self, plan: ResolvedRun, folder: RunFolder, console: Console) -> None:
        """Starts the ranks of a run whose directory has been written.

        Raises InputError or RunError with the message of the failure.
        """
        ...

    def status(self, folder: RunFolder) -> list[str]:
        """Lines of `phalanx status` on what it started for a run; none if it started nothing."""
        ...

    def cancel(self, folder: RunFolder) -> str | None:
        """Makes the ranks save and end; returns what was signalled, None if it started none.

        Raises InputError if everything it started has ended.
        """
        ...


def counted_ranks(plan: ResolvedRun) -> str:
    """The number of ranks, formatted for the user."""
    ranks = plan.layout.world_size
    return "1 rank" if ranks == 1 else f"{ranks} ranks"
