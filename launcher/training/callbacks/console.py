"""Training progress: a bar on a terminal, periodic lines anywhere else."""

from __future__ import annotations

import time
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from launcher.training.callbacks.callback import Callback, StepRecord

LINE_EVERY_S = 10.0


def describe(record: StepRecord) -> str:
    """Loss, gradient norm, speed, MFU if known, and memory in one line."""
    mfu = "" if record.mfu is None else f"  MFU {100 * record.mfu:.1f} %"
    return (
        f"loss {record.loss:.4f}  grad norm {record.grad_norm:.3f}  "
        f"{record.tokens_per_s:,.0f} tokens/s  {record.tflops:.3g} TFLOP/s{mfu}  "
        f"{record.memory_gib:.2f} GiB"
    )


class ProgressBar(Callback):
    """Steps done, loss, speed, memory and time left, updated in place."""

    def __init__(self, terminal: IO[str], first: int, last: int) -> None:
        self._eval = ""
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=10),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            # On a narrow terminal only the end of this column is cut.
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True)),
            console=Console(file=terminal, markup=False),
            expand=True,
        )
        self._task = self._bar.add_task("the first step", total=last, completed=first - 1)
        self._bar.start()

    def after_step(self, record: StepRecord) -> None:
        """Moves the bar to the step and shows its values."""
        text = describe(record) + self._eval
        self._bar.update(self._task, completed=record.step, description=text)

    def after_evaluation(self, step: int, eval_loss: float) -> None:
        """Prints the loss above the bar and keeps it beside the step's values."""
        self._eval = f"  held out {eval_loss:.4f}"
        self._bar.console.print(f"step {step}: loss on held-out text {eval_loss:.4f}")

    def on_rollback(self, step: int) -> None:
        """Moves the bar back to `step`."""
        self._bar.update(self._task, completed=step)

    def at_end(self) -> None:
        """Leaves the bar in its last state and releases the terminal."""
        self._bar.stop()


class ProgressLines(Callback):
    """For logs: a line for the first and the last step, and one every ten seconds between."""

    def __init__(self, terminal: IO[str], first: int, last: int) -> None:
        self._terminal = terminal
        self._last = last
        self._next = 0.0
        self._started = time.monotonic()
        self._first = first

    def after_step(self, record: StepRecord) -> None:
        """Prints a line if LINE_EVERY_S has passed, or at the last step."""
        now = time.monotonic()
        if now < self._next and record.step != self._last:
            return
        self._next = now + LINE_EVERY_S
        done = record.step - self._first + 1
        left = (now - self._started) / done * (self._last - record.step)
        self._say(f"step {record.step}/{self._last}  {describe(record)}  {left:.0f} s left")

    def after_evaluation(self, step: int, eval_loss: float) -> None:
        """Prints the loss on held-out text."""
        self._say(f"step {step}: loss on held-out text {eval_loss:.4f}")

    def _say(self, line: str) -> None:
        print(line, file=self._terminal, flush=True)
