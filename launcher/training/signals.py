"""Records that a rank was told to stop. Imports no torch, which takes seconds meanwhile."""

from __future__ import annotations

import signal
from types import FrameType


class Signals:
    """Records the first signal. Create it early: an unhandled signal would end the process."""

    def __init__(self, warning: str) -> None:
        """`warning`: the signal, without SIG, that the cluster sends before its time limit."""
        self.came: int = 0
        numbers = {signal.SIGTERM, signal.Signals[f"SIG{warning}"]}
        for number in numbers:
            signal.signal(number, self._note)
        # Torchrun's agent blocks them, along with others, until now
        # (`launcher.start.torchrun_node`).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.came = self.came or number
