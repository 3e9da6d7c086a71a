"""Checkpoints against the disk they are on: `python -m benchmarks.checkpoint.rate`.

In each round as many bytes as a checkpoint's are written to one file from its beginning to its
end and made to stay (fsync), the checkpoint is saved, the file is read and the checkpoint is
loaded. The disk's rates are those past the system's cache, 16 MiB at a time from memory of huge
pages. A save reads back all that it wrote and compares it before it counts, so it moves its bytes
twice: it stands beside the disk's writing and reading of them, and beside its writing alone. A load
looks at every digest while it loads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.checkpoint.stall import state_of
from benchmarks.paired import Spread, conditions
from benchmarks.trainers.plain_pytorch import batches_of, engine_on_one_rank
from launcher.command_line.compose import compose_run
from models.shape import ModelShape
from parallel.checkpoint import manifest
from parallel.checkpoint.direct_io import huge_memory

WARM_UP = 1  # rounds
CHUNK = 1 << 24  # bytes at a time
GOAL = 0.8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="gpt3_125m")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; else a temporary")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("settings", nargs="*", help="more overrides, such as model.context=256")
    options = parser.parse_args()
    run = compose_run([f"model={options.model}", "layout=single", "device=cpu", *options.settings])
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as temporary,
        engine_on_one_rank(run) as engine,
    ):
        from parallel.checkpoint.store import CheckpointStore
        from parallel.engines.base import Batch

        engine.train_step(Batch(micro_batches=batches_of(run)[0][:1]), 1e-4)
        shape, folder = ModelShape.of(run.model), Path(temporary)

        store = CheckpointStore(folder / "checkpoints", None)
        size = shape.parameters * 4 * 3
        memory = huge_memory(CHUNK)
        memory[:] = torch.randint(0, 255, (CHUNK,), dtype=torch.uint8).numpy().tobytes()
        seconds: dict[str, list[float]] = {}

        def timed(name: str, action: Callable[[], object]) -> None:
            started = time.perf_counter()
            action()
            seconds.setdefault(name, []).append(time.perf_counter() - started)

        for number in range(WARM_UP + options.rounds):
            path = folder / "file"
            timed("disk, write", lambda path=path: _write(path, memory, size))  # type: ignore[misc]
            state = state_of(engine, shape, number + 1)
            timed("save", lambda state=state: store.save(engine, state, keep=0))  # type: ignore[misc]
            saved = manifest.find(folder / "checkpoints")
            for each in saved.iterdir():
                _forget(each)
            timed("disk, read", lambda path=path: _read(path, memory))  # type: ignore[misc]
            timed("load", lambda saved=saved: store.load(engine, saved))  # type: ignore[misc]
            path.unlink()
            manifest.discard(saved)
    _show(seconds, size, f"{run.model.name}, {size / 2**30:.2f} GiB")


def _write(path: Path, memory: memoryview, size: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    try:
        for _ in range(-(-size // CHUNK)):
            assert os.write(handle, memory) == CHUNK
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path, memory: memoryview) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        while os.readv(handle, [memory]):
            pass
    finally:
        os.close(handle)


def _forget(path: Path) -> None:
    """Lets the system's cache of a file go."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _show(seconds: dict[str, list[float]], size: int, title: str) -> None:
    counted = {name: taken[WARM_UP:] for name, taken in seconds.items()}
    both = [a + b for a, b in zip(counted["disk, write"], counted["disk, read"], strict=True)]
    table = Table(box=box.SIMPLE)
    for heading in ("", "of the disk's rate", "known within", "seconds", "disk, seconds", "goal"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, own, disk, goal in (
        ("save, its writing and reading back", counted["save"], both, f"{GOAL}"),
        ("the same against writing alone", counted["save"], counted["disk, write"], ""),
        ("load", counted["load"], counted["disk, read"], f"{GOAL}"),
    ):
        ratio = Spread.of([b / a for a, b in zip(own, disk, strict=True)])
        taken = [f"{statistics.median(each):.2f}" for each in (own, disk)]
        within = "{:.2f} to {:.2f}".format(*ratio.interval)
        table.add_row(name, f"{ratio.median:.2f}", within, *taken, goal)
    rates = (
        f"{kind} {size / 1e6 / statistics.median(counted[f'disk, {kind}']):,.0f} MB/s"
        for kind in ("write", "read")
    )
    print(f"{title}; {len(both)} rounds; the disk: {', '.join(rates)}\n{conditions()}")
    Console(markup=False, width=100).print(table)


if __name__ == "__main__":
    main()
