"""Programs that take turns, each in processes of its own, set up as its users would start it.

What one of them tells the system or torch, of memory or threads, is then no gift to the others. A
program that waits does nothing: it sleeps on a pipe.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import paired
from benchmarks.paired import Block, Paired

ENGINE, LOCAL, PLAIN, TORCH, PICOTRON, TRANSFORMERS = (
    "engine",
    "Megatron-core's local spec",
    "plain PyTorch",
    "PyTorch's own",
    "picotron",
    "transformers",
)
TRAINER = "benchmarks.trainers.trainer"
_READY, _DONE = "<ready>", "<done>"  # lines of a program's output


class Program:
    """A program of one rank or several. Called, it takes so many steps, and returns after them."""

    def __init__(self, arguments: list[str], ranks: int, threads_each: int | None = None) -> None:
        """`arguments`: of Python, such as -m and a module that calls `serve`.

        Args:
            threads_each: of each rank; None: the machine's cores shared out.
        """
        each = threads_each or (threads_of(ranks) if ranks > 1 else None)
        threads = {"OMP_NUM_THREADS": str(each)} if each else {}
        world = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
        self._ranks = [
            subprocess.Popen(
                [sys.executable, *arguments],
                env=os.environ | world | threads | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(ranks)
        ]

    def wait(self, word: str = _READY) -> None:
        """What ranks print meanwhile goes to the terminal. Exits where one has ended."""
        for rank in self._ranks:
            assert rank.stdout is not None
            for line in rank.stdout:
                if line.strip() == word:
                    break
                print(line, end="", flush=True)
            else:
                sys.exit(f"{' '.join(map(str, rank.args))} ended")  # type: ignore[arg-type]

    def __call__(self, steps: int) -> None:
        for rank in self._ranks:
            assert rank.stdin is not None
            print(steps, file=rank.stdin, flush=True)
        self.wait(_DONE)

    def close(self) -> None:
        for rank in self._ranks:
            rank.kill()
        for rank in self._ranks:
            rank.wait()


@contextmanager
def programs(arguments: dict[str, list[str]], ranks: int) -> Iterator[dict[str, Block]]:
    """One after the other they get ready; then they may be called in turn."""
    with ExitStack() as stack:
        started: dict[str, Block] = {}
        for name, each in arguments.items():
            program = Program(each, ranks)
            stack.callback(program.close)
            program.wait()
            started[name] = program
        yield started


def take_turns(
    names: list[str],
    settings: list[str],
    *,
    ranks: int,
    rounds: int,
    steps: int,
    picotron: str = "",
) -> Paired:
    """Times of the named trainers, of which the first is the base and runs against itself too."""
    arguments = {
        name: [*("-m", TRAINER, "--name", name, "--picotron", picotron), *settings]
        for name in names
    }
    with programs(arguments, ranks) as blocks:
        again = {f"{names[0]} again": blocks[names[0]]}
        return paired.measure(blocks | again, rounds=rounds, steps=steps)


def serve(block: Block) -> None:
    """A rank's part: takes steps when it is told to, until there is nobody to tell it."""
    print(_READY, flush=True)
    for line in sys.stdin:
        block(int(line))
        print(_DONE, flush=True)


def threads_of(ranks: int) -> int:
    """Of each of so many ranks of this machine."""
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def _free_port() -> str:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return str(chosen.getsockname()[1])
