"""Tells the rank's watchdog of each step."""

from __future__ import annotations

from launcher.failure.watchdog import Watchdog
from launcher.training.callbacks.callback import Callback, StepRecord


class StepsWatched(Callback):
    """A step, and what is done between two, must end within `timeout_s` seconds."""

    def __init__(self, watchdog: Watchdog, timeout_s: float) -> None:
        self._watchdog = watchdog
        watchdog.watch("before the first step", timeout_s)

    def before_step(self, step: int) -> None:
        """Notes that the step begins."""
        self._watchdog.note("training", step)

    def after_step(self, record: StepRecord) -> None:
        """Notes that the step is done."""
        self._watchdog.note("between steps")

    def on_rollback(self, step: int) -> None:
        """Notes that the rank rolls back to `step`."""
        self._watchdog.note("going back", step)

    def at_end(self) -> None:
        """Stops watching."""
        self._watchdog.stop()
