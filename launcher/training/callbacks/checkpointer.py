"""Saves checkpoints every so many steps, on request, and at the end."""

from __future__ import annotations

from collections.abc import Callable

from launcher.training.callbacks.callback import Callback, StepRecord


class Checkpoints(Callback):
    """Collective: every rank saves its own shards.

    Args:
        save: starts a save, which may run concurrently with training.
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
        """Starts a save every `every` steps and after the last."""
        if record.step == self._last or (self._every and record.step % self._every == 0):
            self.save_now(record)

    def save_now(self, record: StepRecord) -> None:
        """Starts a save, unless this step is already saved."""
        if record.step != self._saved:
            self._save(record)
            self._saved = record.step

    def on_rollback(self, step: int) -> None:
        """Treats the checkpoint of `step` as the newest."""
        self._saved = step

    def at_end(self) -> None:
        """Waits for the save in progress."""
        self._finish()
