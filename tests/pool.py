"""A pool of ranks that serves the whole test session, so that imports are paid once.

A job is a function of an importable module; it runs on every rank of a fresh gloo or NCCL world.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from configs.schema import DeviceName

RANKS = 8
PRELOADED = "tests.preload"
TIMEOUT_S = 240
GRACE_S = 30  # for the other ranks, once one has failed
THREADS = 300
"""Ranks with more begin anew: hooks of autograd keep some engines and their groups alive, out of
the garbage collector's sight, and each gloo group has threads."""


class RankPool:
    """Ranks of a CPU, or each with a GPU of its own."""

    def __init__(
        self, size: int = RANKS, device: DeviceName = DeviceName.cpu, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._workers: list[tuple[Any, Connection]] = []
        self._size = size
        self._device = device
        self._timeout_s = timeout_s

    def run(self, world_size: int, job: Callable[..., Any], *args: Any) -> list[Any]:
        """Runs job(*args) on ranks 0 to world_size - 1; returns what each returned.

        Raises AssertionError with the failing ranks' tracebacks.
        """
        if not self._workers:
            self._start()
        with tempfile.TemporaryDirectory() as folder:
            for rank, (_, pipe) in enumerate(self._workers[:world_size]):
                pipe.send((rank, world_size, str(Path(folder) / "store"), job, args))
            answers = self._answers(world_size)
        # One rank's failure closes the connections of others, so all are told.
        failures = [
            f"rank {rank} of {world_size}:\n{answer}"
            for rank, (failed, answer, _) in sorted(answers.items())
            if failed
        ]
        # After a CUDA error a process computes no more.
        lost = len(answers) < world_size or (failures and self._device is DeviceName.cuda)
        if lost or max(threads for _, _, threads in answers.values()) > THREADS:
            self.stop()
        silent = [str(rank) for rank in range(world_size) if rank not in answers]
        if silent:
            failures.append(f"ranks {', '.join(silent)} did not answer or are gone")
        assert not failures, "\n".join(failures)
        return [answers[rank][1] for rank in range(world_size)]

    def _answers(self, world_size: int) -> dict[int, Any]:
        """Of each rank that answers in time: whether it failed, its answer, its threads."""
        waiting = {pipe: rank for rank, (_, pipe) in enumerate(self._workers[:world_size])}
        answers: dict[int, Any] = {}
        deadline = time.monotonic() + self._timeout_s
        while waiting:
            ready: list[Any] = wait(list(waiting), max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    answers[rank] = pipe.recv()
                except EOFError:
                    failed = True
                else:
                    failed = answers[rank][0]
                if failed:  # the others may wait for it
                    deadline = min(deadline, time.monotonic() + GRACE_S)
        return answers

    def _start(self) -> None:
        # What is preloaded is for a CPU, and a process that CUDA has seen cannot be forked.
        cpu = self._device is DeviceName.cpu
        context: Any = multiprocessing.get_context("forkserver" if cpu else "spawn")
        if cpu:
            context.set_forkserver_preload([PRELOADED])
        for rank in range(self._size):
            ours, theirs = context.Pipe()
            given = (theirs, self._device, rank, self._size)
            process = context.Process(target=_serve, args=given, daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def stop(self) -> None:
        for process, pipe in self._workers:
            pipe.close()
            process.terminate()
            process.join()
        self._workers = []


def _serve(pipe: Connection, name: DeviceName, local_rank: int, size: int) -> None:
    import torch

    from parallel.runtime.device import open_device

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    # Megatron-core overlaps collectives with matmuls by the order of launches, in a single queue.
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
    device = open_device(name, local_rank, size)
    cuda = name is DeviceName.cuda
    while True:
        try:
            rank, world_size, store, job, args = pipe.recv()
        except EOFError:
            return
        try:
            torch.distributed.init_process_group(
                device.backend,
                init_method=f"file://{store}",
                rank=rank,
                world_size=world_size,
                device_id=device.torch_device if cuda else None,
            )
            answer = (False, job(*args))
        except BaseException:
            answer = (True, traceback.format_exc())
            if cuda:  # leaving NCCL's groups would wait for the others, and so would the answer
                pipe.send((*answer, 0))
                return
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        # Groups hang in circles of references, and each keeps threads.
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()
        threads = len(os.listdir("/proc/self/task"))
        pipe.send((*answer, threads))
