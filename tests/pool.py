"""A pool of ranks that serves the whole test session, so that imports are paid once.

A job is a function of an importable module; it runs on every rank of a fresh gloo world.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

RANKS = 8
PRELOADED = "tests.preload"
TIMEOUT_S = 240
THREADS = 300
"""Ranks with more begin anew: hooks of autograd keep some engines and their groups alive, out of
the garbage collector's sight, and each gloo group has threads."""


class RankPool:
    def __init__(self) -> None:
        self._workers: list[tuple[Any, Connection]] = []

    def run(self, world_size: int, job: Callable[..., Any], *args: Any) -> list[Any]:
        """Runs job(*args) on ranks 0 to world_size - 1; returns what each returned.

        Raises AssertionError with the failing ranks' tracebacks.
        """
        if not self._workers:
            self._start()
        with tempfile.TemporaryDirectory() as folder:
            for rank, (_, pipe) in enumerate(self._workers[:world_size]):
                pipe.send((rank, world_size, str(Path(folder) / "store"), job, args))
            answers, threads = [], 0
            for rank, (_, pipe) in enumerate(self._workers[:world_size]):
                if not pipe.poll(TIMEOUT_S):
                    self.stop()
                    raise AssertionError(f"rank {rank} did not answer within {TIMEOUT_S} s")
                answer, here = pipe.recv()
                answers.append(answer)
                threads = max(threads, here)
        if threads > THREADS:
            self.stop()
        # One rank's failure closes the connections of others, so all are told.
        failures = [
            f"rank {rank} of {world_size}:\n{answer}"
            for rank, (failed, answer) in enumerate(answers)
            if failed
        ]
        assert not failures, "\n".join(failures)
        return [answer for _, answer in answers]

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([PRELOADED])
        for _ in range(RANKS):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def stop(self) -> None:
        for process, pipe in self._workers:
            pipe.close()
            process.terminate()
            process.join()
        self._workers = []


def _serve(pipe: Connection) -> None:
    import torch

    from configs.schema import DeviceName
    from parallel.runtime.device import open_device

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    open_device(DeviceName.cpu, 0, RANKS)
    while True:
        try:
            rank, world_size, store, job, args = pipe.recv()
        except EOFError:
            return
        try:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size
            )
            answer = (False, job(*args))
        except BaseException:
            answer = (True, traceback.format_exc())
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        # Groups hang in circles of references, and each keeps threads.
        gc.collect()
        threads = len(os.listdir("/proc/self/task"))
        pipe.send((answer, threads))
