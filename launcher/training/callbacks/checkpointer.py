"""Saves at every so many steps, when asked to, and at the end."""

from __future__ import annotations

from collections.abc import Callable

from launcher.training.callbacks.callback import Callback, StepRecord


class Checkpoints(Callback):
    """Collective: every rank saves what it holds.

    Args:
        save: begins a save, which may go on beside the training.
        finish: waits for it.
    """

    def __init__(
        self,
        save: Callable[[StepRecord], None],
        finish: Callable[[], None],
        every: int,
        last: int,
    ) -> None:
        self._save = save
        self._finish = finish
        self._every = every
        self._last = last
        self._saved: int | None = None

    def after_step(self, record: StepRecord) -> None:
        """Begins a save after every `every` steps and after the last."""
        if record.step == self._last or (self._every and record.step % self._every == 0):
            self.save_now(record)

    def save_now(self, record: StepRecord) -> None:
        """Begins a save, unless this step was saved already."""
        if record.step != self._saved:
            self._save(record)
            self._saved = record.step

    def on_rollback(self, step: int) -> None:
        """Counts the checkpoint of `step` as the newest."""
        self._saved = step

    def at_end(self) -> None:
        """Waits for the save that is under way."""
        self._finish()
