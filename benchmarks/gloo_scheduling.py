"""Gloo's collectives, and steps of training, with and without what `open_device` tells the system.

Both are the same ranks, whose threads are scheduled one way and the other by turns: as usual
(SCHED_OTHER), or in batches (SCHED_BATCH), where a thread that wakes up preempts no other.

    python -m benchmarks.gloo_scheduling
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch.distributed import all_reduce, get_rank
from torch.multiprocessing.spawn import spawn

from benchmarks.paired import Block, measure, show
from configs.schema import DeviceName
from launcher.command_line.compose import compose_run
from parallel.layout import Layout
from parallel.runtime.device import Device, open_device

USUAL, BATCH = "SCHED_OTHER", "SCHED_BATCH"
RANKS = (2, 4, 8)
BYTES = (2 << 10, 512 << 10)  # a gradient norm's worth, and an activation of a small model
LAYOUTS = ("layout.tensor=2", "layout.data=2", "layout.tensor=4", "layout.tensor=2 layout.data=4")
MODEL = "model=gpt3_nano model.context=128 train.global_batch=8 layout.micro_batch=2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for number, ranks in enumerate(RANKS):
            store = str(Path(folder) / f"collectives_{number}")
            spawn(_collectives, (ranks, store, rounds), ranks)  # type: ignore[no-untyped-call]
        for number, layout in enumerate(LAYOUTS):
            run = compose_run(["layout=single", *MODEL.split(), *layout.split()])
            ranks = Layout.resolve(run.layout, None).world_size
            store = str(Path(folder) / f"training_{number}")
            spawn(_training, (ranks, store, rounds, layout), ranks)  # type: ignore[no-untyped-call]


def _join(rank: int, ranks: int, store: str) -> Device:
    warnings.filterwarnings("ignore")
    device = open_device(DeviceName.cpu, rank, ranks)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=ranks
    )
    return device


def _collectives(rank: int, ranks: int, store: str, rounds: int) -> None:
    _join(rank, ranks, store)
    for size in BYTES:
        tensor = torch.ones(size // 4)

        def step(tensor: torch.Tensor = tensor) -> None:
            all_reduce(tensor)
            tensor.div_(ranks)

        _compare(step, f"all-reduce of {size >> 10} KiB over {ranks} ranks", rounds, 50)


def _training(rank: int, ranks: int, store: str, rounds: int, layout: str) -> None:
    from parallel.engines.base import Batch
    from parallel.engines.registry import ENGINES
    from parallel.runtime.process_groups import process_groups

    device = _join(rank, ranks, store)
    run = compose_run(["layout=single", *MODEL.split(), *layout.split()])
    resolved = Layout.resolve(run.layout, None)
    generator = torch.Generator().manual_seed(rank // resolved.tensor)
    shape = (resolved.micro_batch, run.model.context + 1)
    micro_batches = [
        torch.randint(0, run.model.vocab, shape, generator=generator)
        for _ in range(resolved.micro_batches(run.train.global_batch))
    ]
    with (
        process_groups(resolved, run.train.seed, run.launch.timeout_s),
        ENGINES[run.engine.name].load("build")(run, resolved, device) as engine,
    ):
        batch = Batch(micro_batches=micro_batches)
        title = f"a step of gpt3_nano, {layout}, {ranks} ranks"
        _compare(lambda: engine.train_step(batch, 1e-4), title, rounds, 2)


def _compare(step: Callable[[], object], title: str, rounds: int, steps: int) -> None:
    def block(policy: str) -> Block:
        def run(number: int) -> None:
            _schedule(getattr(os, policy))
            for _ in range(number):
                step()

        return run

    blocks = {policy: block(policy) for policy in (USUAL, BATCH)}
    paired = measure(blocks, rounds=rounds, steps=steps)
    if get_rank() == 0:
        show(paired, title)


def _schedule(policy: int) -> None:
    """All threads of this process."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setscheduler(int(thread), policy, os.sched_param(0))


if __name__ == "__main__":
    main()
