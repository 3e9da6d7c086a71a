"""Distributes work over processes, with progress and clean failure."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from configs.errors import RunError

Task = TypeVar("Task")
Result = TypeVar("Result")

POLL_S = 0.2
_PR_SET_PDEATHSIG = 1

_done: Any = None  # in a worker: a counter of bytes done by all workers


def advance(size: int) -> None:
    """Called by work in progress: this many bytes are done."""
    if _done is not None:
        with _done.get_lock():
            _done.value += size


class Workers:
    """At most `count` processes, started if there is work for more than one."""

    def __init__(self, count: int | None, on_progress: Callable[[int], None]) -> None:
        """`on_progress` is called periodically with the total bytes done."""
        self._count = count or cores()
        self._on_progress = on_progress
        self._pool: ProcessPoolExecutor | None = None
        self._context = multiprocessing.get_context("spawn")
        self._counter: Any = self._context.Value("q", 0)

    def map(self, work: Callable[[Task], Result], jobs: Sequence[Task]) -> Iterator[Result]:
        """Yields results as they arrive, in any order.

        Raises what `work` raises; RunError if a process died.
        """
        if min(self._count, len(jobs)) <= 1:
            yield from self._here(work, jobs)
            return
        pool = self._started()
        pending = {pool.submit(work, job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, timeout=POLL_S, return_when=FIRST_COMPLETED)
                self._on_progress(self._counter.value)
                for each in done:
                    yield each.result()
        except BrokenProcessPool as error:
            raise RunError(
                "a process that read the corpus died, as when memory runs out; what it had "
                "finished is kept, and the same command goes on from there (corpus.workers=1 "
                "needs the least memory)"
            ) from error
        finally:
            for each in pending:
                each.cancel()

    def close(self) -> None:
        """Waits until the processes have ended."""
        if self._pool is not None:
            self._pool.shutdown()

    def kill(self) -> None:
        """Kills the processes at once; unfinished work is repeated next time."""
        if self._pool is not None:
            for process in list(self._pool._processes.values()):  # public from Python 3.14 on
                process.kill()
            self._pool.shutdown(cancel_futures=True)

    def _here(self, work: Callable[[Task], Result], jobs: Sequence[Task]) -> Iterator[Result]:
        global _done
        for job in jobs:
            _done = _Here(self._counter, self._on_progress)
            try:
                result = work(job)
            finally:
                _done = None
            yield result

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._count,
                mp_context=self._context,
                initializer=_begin,
                initargs=(self._counter, os.getpid()),
            )
        return self._pool


class _Here:
    """The counter for work done in this process, which reports at once."""

    def __init__(self, counter: Any, on_progress: Callable[[int], None]) -> None:
        self._counter = counter
        self._on_progress = on_progress

    def get_lock(self) -> Any:
        return threading.Lock()

    @property
    def value(self) -> int:
        return self._counter.value

    @value.setter
    def value(self, value: int) -> None:
        self._counter.value = value
        self._on_progress(value)


@contextmanager
def workers(count: int | None, on_progress: Callable[[int], None]) -> Iterator[Workers]:
    """Closes the processes at the end of the block, or kills them if it raises."""
    made = Workers(count, on_progress)
    try:
        yield made
    except BaseException:
        made.kill()
        raise
    made.close()


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _begin(counter: Any, parent: int) -> None:
    global _done
    _done = counter
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and ends the work
    die_with_parent(parent)


def die_with_parent(parent: int | None = None) -> None:
    """Makes this process die when its parent does, for whatever reason (Linux).

    `parent`: its process id, if known: the parent may be gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent not in (None, os.getppid()):
        os._exit(1)
