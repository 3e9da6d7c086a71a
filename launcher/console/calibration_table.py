"""The table of `phalanx plan calibrate`: each run's plan before and after."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from parallel.planner.calibrate import Measured


def calibration_table(
    runs: Sequence[Measured],
    before: Sequence[float],
    after: Sequence[float],
    left_out: Sequence[float],
) -> Table:
    """Seconds of a step of each run, and how far its plans are from them.

    Args:
        before: planned over measured by published constants.
        after: by the fitted ones.
        left_out: by constants that were fitted to the other runs.
    """
    table = Table(
        title="plans of these runs, and what their steps took",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    table.add_column("run", overflow="fold")
    table.add_column("layout")
    for name in ("step s", "before", "after", "by the others"):
        table.add_column(name, justify="right")
    for run, *errors in zip(runs, before, after, left_out, strict=True):
        off = [f"{(each - 1) * 100:+.1f} %" for each in errors]
        table.add_row(run.name, str(run.job.layout), f"{run.seconds:.4g}", *off)
    return table
