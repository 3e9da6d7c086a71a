"""Ends a rank that waits for others longer than its timeout, and dumps its threads' stacks.

A hanging rank gives no sign; the others wait for it in a collective, which gloo and NCCL abort only
after their own timeouts, or never. A thread on each rank checks when its training loop last
progressed.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from launcher.failure.flight_recorder import waits_in
from launcher.failure.heartbeat import current_status
from launcher.failure.record import Failure, leave_note
from launcher.training.callbacks.callback import Callback, StepRecord

_LOOKS = 20  # checks per timeout


class Watchdog(Callback):
    """Ends this process if it makes no progress for `timeout_s` seconds."""

    def __init__(self, logs: Path, rank: int, timeout_s: float) -> None:
        self._logs, self._rank = logs, rank
        self._timeout_s = timeout_s
        self._ended = threading.Event()
        self._since: float | None = None  # None: not watching
        threading.Thread(target=self._watch, daemon=True).start()

    def before_step(self, step: int) -> None:
        """Notes that the step begins."""
        self.note("training", step)

    def after_step(self, record: StepRecord) -> None:
        """Notes that the step is done."""
        self.note("between steps")

    def on_rollback(self, step: int) -> None:
        """Notes that the rank rolls back to `step`."""
        self.note("going back", step)

    def at_end(self) -> None:
        """Stops watching."""
        self._since = None
        self._ended.set()

    def note(self, phase: str, step: int | None = None) -> None:
        """Records progress, with the current phase."""
        current_status.note(phase, step)
        self._since = time.monotonic()

    @contextmanager
    def paused(self, phase: str) -> Iterator[None]:
        """Pauses the watchdog while a checkpoint is copied or written, which has no time limit."""
        self._since = None
        try:
            with current_status.during(phase):
                yield
        finally:
            self._since = time.monotonic()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(self._timeout_s / _LOOKS):
            since, before, looked = self._since, looked, time.monotonic()
            if since is None:
                continue
            if looked - before > self._timeout_s / 2:
                # This rank itself was suspended; the others have given up on it by now.
                self._end(f"stood still for {looked - before:.0f} s")
            elif looked - since > self._timeout_s:
                self._end(f"waited {self._timeout_s:g} s", waited_s=self._timeout_s)

    def _end(self, message: str, waited_s: float = 0.0) -> None:
        try:
            self._leave_word(message, waited_s)
        finally:
            # Nothing else ends a process whose main thread is in a collective.
            os._exit(1)

    def _leave_word(self, message: str, waited_s: float) -> None:
        stacks = self._logs / f"stacks_rank_{self._rank}.txt"
        with suppress(OSError), stacks.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        failure = Failure.of_this_process(
            self._rank,
            f"{message}; {stacks} says where",
            lost_peer=waited_s > 0,
            waited_s=waited_s,
            waits_in=waits_in(self._logs, self._rank),
        )
        leave_note(self._logs, failure)
