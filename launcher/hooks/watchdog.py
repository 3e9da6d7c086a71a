"""Ends a rank that waits for others longer than it may, with the stacks of its threads on disk.

A rank that hangs says nothing; the others wait for it in a collective, which gloo and NCCL leave in
their own time, or never. A thread of each rank looks at when its training loop last went on.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.failures import Failure, leave_note
from launcher.hooks.hook import Hook, StepRecord

_LOOKS = 20  # in the time that a rank may wait


class Watchdog(Hook):
    def __init__(self, logs: Path, rank: int, ranks: int, timeout_s: float) -> None:
        self._logs, self._rank, self._ranks = logs, rank, ranks
        self._timeout_s = timeout_s
        self._ended = threading.Event()
        self._doing = ""
        self._since: float | None = None  # None: nothing is watched
        threading.Thread(target=self._watch, daemon=True).start()

    def before_step(self, step: int) -> None:
        self.note(f"step {step}")

    def after_step(self, record: StepRecord) -> None:
        self.note(f"what follows step {record.step}")

    def at_end(self) -> None:
        self._since = None
        self._ended.set()

    def note(self, doing: str) -> None:
        """The loop goes on, with this."""
        self._doing, self._since = doing, time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While a checkpoint is written, which takes as long as it takes."""
        self._since = None
        try:
            yield
        finally:
            self.note(self._doing)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(self._timeout_s / _LOOKS):
            since, before, looked = self._since, looked, time.monotonic()
            if since is None:
                continue
            if looked - before > self._timeout_s / 2:
                # It is this rank that the others waited for; it was stopped, and goes on too late.
                self._end(f"stood still for {looked - before:.0f} s in {self._doing}")
            elif looked - since > self._timeout_s:
                waited = f"{self._timeout_s:g} s in {self._doing}"
                self._end(f"waited {waited}", waited)

    def _end(self, message: str, waited: str = "") -> None:
        stacks = self._logs / f"stacks_rank_{self._rank}.txt"
        with stacks.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        failure = Failure(
            rank=self._rank,
            message=f"{message}; {stacks} says where",
            of_input=False,
            lost_peer=bool(waited),
            time=time.time(),
            traceback="",
            waited=waited,
            ranks=self._ranks,
        )
        leave_note(self._logs, failure)
        # Nothing less ends a process whose main thread is in a collective.
        os._exit(1)
