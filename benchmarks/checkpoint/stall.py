"""How long training waits for a checkpoint: `python -m benchmarks.checkpoint.stall`.

In each round a step, a save that training waits for, a step, a save beside the training, and a step
while that is written. All waits are told in steps: a wait over the quiet step of its own round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.paired import Spread
from benchmarks.trainers.turns import threads_of
from launcher.command_line.compose import compose_run
from launcher.failure.watchdog import Watchdog
from launcher.run.resolve import ResolvedRun, resolve
from launcher.start.world import joined_world
from models.shape import ModelShape, to_json
from parallel.checkpoint.manifest import TrainState

WARM_UP = 2  # rounds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layout", default="tensor=2", help="such as tensor=2,pipeline=2")
    parser.add_argument("--engine", default="megatron", choices=("megatron", "deepspeed"))
    parser.add_argument("--model", default="gpt3_nano")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("settings", nargs="*", help="more overrides, such as model.hidden=512")
    options = parser.parse_args()
    overrides = [
        *(f"model={options.model}", f"engine={options.engine}", "layout=single", "device=cpu"),
        *(f"layout.{size}" for size in options.layout.split(",") if size),
        *options.settings,
    ]
    plan = resolve(compose_run(overrides))
    if "RANK" not in os.environ:
        sys.exit(_start(plan.layout.world_size))
    _measure(plan, options)


def _start(ranks: int) -> int:
    threads = threads_of(ranks)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [sys.executable, "-m", *torchrun, "-m", "benchmarks.checkpoint.stall", *sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "STALL_FOLDER": folder}
        return subprocess.run(command, env=environment).returncode


def _measure(plan: ResolvedRun, options: argparse.Namespace) -> None:
    with joined_world(plan.run, Watchdog.alone()) as device:
        from parallel.checkpoint.store import CheckpointStore
        from parallel.engines.running import running_engine
        from parallel.runtime.process_groups import checkpoint_group

        with running_engine(plan.run, plan.layout, device) as engine:
            folder = Path(os.environ["STALL_FOLDER"])
            beside = checkpoint_group()
            waiting = CheckpointStore(folder / "waiting", None)
            store = CheckpointStore(folder / "beside", None, beside)
            rows = _rounds(plan, engine, waiting, store, options.rounds)
            torch.distributed.destroy_process_group(beside)
    if os.environ["RANK"] == "0":
        _show(rows, plan, options)


def _rounds(
    plan: ResolvedRun, engine: Any, waiting: Any, store: Any, rounds: int
) -> dict[str, list[float]]:
    from parallel.engines.base import Batch

    layout, shape, size = plan.layout, plan.shape, plan.run.train.global_batch
    tokens = torch.randint(0, shape.vocab, (size, shape.context + 1))
    place = layout.coordinates(torch.distributed.get_rank())
    batch = Batch(micro_batches=[tokens[list(p)] for p in layout.samples_of(place.data, size)])
    seconds: dict[str, list[float]] = {}

    def timed(name: str, action: Callable[[], object]) -> None:
        torch.distributed.barrier()
        started = time.perf_counter()
        action()
        torch.distributed.barrier()
        seconds.setdefault(name, []).append(time.perf_counter() - started)

    def step() -> None:
        engine.train_step(batch, 1e-4)

    for number in range(WARM_UP + rounds):
        state = state_of(engine, shape, number + 1)
        timed("a quiet step", step)
        timed("a save that is waited for", partial(waiting.save, engine, state, keep=1))
        timed("a save beside", partial(store.begin_save, engine, state, keep=1))
        timed("a step while it is written", step)
        timed("the rest of its writing", store.finish)
    return {name: numbers[WARM_UP:] for name, numbers in seconds.items()}


def state_of(engine: Any, shape: ModelShape, step: int) -> TrainState:
    """What a checkpoint of this step says of itself."""
    return TrainState(
        step=step,
        samples=0,
        tokens=0,
        seed=0,
        corpus="",
        adam_step=engine.adam_step(),
        scaler=engine.scaler_state(),
        model=to_json(shape),
    )


def _show(seconds: dict[str, list[float]], plan: ResolvedRun, options: argparse.Namespace) -> None:
    title = (
        f"{plan.run.model.name}, {plan.shape.parameters / 1e6:,.1f}M parameters, engine "
        f"{options.engine}, layout {plan.layout}, {options.rounds} rounds, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    table = Table(
        "", "in quiet steps", "known within", "quartiles", "ms", title=title, box=box.ROUNDED
    )
    quiet = seconds["a quiet step"]
    for name, numbers in seconds.items():
        spread = Spread.of([own / base for own, base in zip(numbers, quiet, strict=True)])
        between = " to ".join(f"{each:.3f}" for each in spread.interval)
        quartiles = " to ".join(f"{each:.3f}" for each in spread.quartiles)
        milliseconds = f"{1000 * statistics.median(numbers):,.1f}"
        table.add_row(name, f"{spread.median:.3f}", between, quartiles, milliseconds)
    Console(markup=False).print(table)


if __name__ == "__main__":
    main()
