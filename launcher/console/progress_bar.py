"""A progress bar for work measured in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yields a callback that takes the phase, bytes done and total bytes (0 of 0: unknown)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        phase = ""

        def on_progress(what: str, done: int, total: int) -> None:
            nonlocal phase
            if what != phase:  # each phase has its own speed
                bar.reset(task, description=what, completed=done, total=total or None)
                phase = what
            bar.update(task, completed=done, total=total or None)

        yield on_progress
