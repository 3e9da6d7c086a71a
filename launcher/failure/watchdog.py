"""Ends a rank that waits for others longer than its limit, and dumps its threads' stacks.

A hanging rank gives no sign; the others wait for it in a collective, which gloo and NCCL abort only
after their own timeouts, or never. A thread on each rank checks when it last progressed, from
before it joins the others until training ends.

The main thread may stand still in C, where Python's handlers of signals do not run: the thread also
hears of SIGTERM itself, which a rank is sent once another has failed, and says where the rank
waits before it is killed.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from launcher.failure.heartbeat import current_status
from launcher.failure.record import Failure, leave_note, note_path

_LOOKS = 20  # checks per limit
_STANDS_STILL_S = 10.0  # after SIGTERM; an agent kills 30 s after it or sooner


class Watchdog:
    """Ends this process if it makes no progress within the limit that `watch` sets.

    Create it in the main thread.

    Args:
        grace_s: launch.grace_s, after which a rank that was told to end is killed.
    """

    def __init__(self, logs: Path, rank: int, grace_s: float) -> None:
        self.logs, self._rank = logs, rank
        self._stands_still_s = min(_STANDS_STILL_S, grace_s / 3)
        self._limit_s = 0.0
        self._since: float | None = None  # None: not watching
        self._told: float | None = None  # when SIGTERM came
        self._word_left = False
        self._heard, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    @classmethod
    def alone(cls) -> Watchdog:
        """For a single process outside a run, whose word goes to its working directory."""
        return cls(Path(), 0, _STANDS_STILL_S)

    def watch(self, phase: str, limit_s: float) -> None:
        """Begins a phase whose every part must progress within `limit_s`."""
        self._limit_s = limit_s
        self.note(phase)
        os.write(self._wakes, b"\0")  # the thread may be sleeping for a longer limit

    def note(self, phase: str, step: int | None = None) -> None:
        """Records progress, with the current phase."""
        current_status.note(phase, step)
        self._since = time.monotonic()
        if self._word_left:
            self._word_left = False
            note_path(self.logs, self._rank).unlink(missing_ok=True)

    @contextmanager
    def paused(self, phase: str) -> Iterator[None]:
        """Pauses the watchdog while something goes on that has no time limit, such as saving."""
        watching, self._since = self._since is not None, None
        try:
            with current_status.during(phase):
                yield
        finally:
            self._since = time.monotonic() if watching else None

    def stop(self) -> None:
        """Stops watching until the next `watch`."""
        self._since = None

    def _run(self) -> None:
        while True:
            every = self._stands_still_s if self._told is not None else self._limit_s
            slept, limit_s = self._sleep(max(every, 0.2) / _LOOKS), self._limit_s
            since, now = self._since, time.monotonic()
            if since is None:
                continue
            if slept > limit_s / 2:
                # This rank itself was suspended; the others have given up on it by now.
                self._end(f"stood still for {slept:.0f} s")
            elif now - since > limit_s:
                self._end(f"waited {limit_s:g} s", waited_s=limit_s)
            elif self._told is not None and not self._word_left:
                still = now - max(since, self._told)
                if still > self._stands_still_s:
                    self._leave_word(
                        f"was told to end and stood still for {still:.0f} s", ended_by="SIGTERM"
                    )
                    self._word_left = True

    def _sleep(self, timeout_s: float) -> float:
        """Sleeps, or until a signal or `watch` wakes the thread; the seconds beyond `timeout_s`."""
        began = time.monotonic()
        if select.select([self._heard], [], [], timeout_s)[0]:
            came = os.read(self._heard, 64)
            if signal.SIGTERM in came and self._told is None:
                self._told = time.monotonic()
        return time.monotonic() - began - timeout_s

    def _end(self, message: str, waited_s: float = 0.0) -> None:
        try:
            self._leave_word(message, waited_s=waited_s)
        finally:
            # Nothing else ends a process whose main thread is in a collective.
            os._exit(1)

    def _leave_word(self, message: str, *, waited_s: float = 0.0, ended_by: str = "") -> None:
        stacks = self.logs / f"stacks_rank_{self._rank}.txt"
        with suppress(OSError), stacks.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        failure = Failure.of_this_process(
            self._rank,
            f"{message}; {stacks} says where",
            lost_peer=waited_s > 0 or bool(ended_by),
            waited_s=waited_s,
            waits_in=_waits_in(self.logs, self._rank),
            ended_by=ended_by,
        )
        with suppress(OSError):
            leave_note(self.logs, failure)


def _waits_in(logs: Path, rank: int) -> str:
    if "torch" not in sys.modules:
        return ""
    from launcher.failure.flight_recorder import waits_in

    return waits_in(logs, rank)
