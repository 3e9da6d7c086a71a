"""A training step on two gloo ranks against other trainers that run on a CPU.

`python -m benchmarks.other_trainers --layout tensor=2` (or pipeline=2, data=2). The same GPT-3 of
dense layers, float32, the same tokens, one process for all: the engine, PyTorch's own parallelism
(`benchmarks/torch_trainer.py`), Megatron-core's local spec as it comes, and picotron where a
checkout is given (`benchmarks/picotron_trainer.py`). The engine, the first row, is the base: a
ratio says how much longer a step of the other takes, which is how many times the engine's
tokens/s are the other's.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import paired
from configs.schema import DeviceName, Run
from launcher.compose import compose_run
from models.shape import ModelShape
from parallel.devices import open_device
from parallel.layout import Layout

Step = Callable[[list[Tensor]], float | None]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layout", default="tensor=2", help="one of two ranks, such as data=2")
    parser.add_argument("--model", default="gpt3_nano")
    parser.add_argument("--settings", nargs="*", default=[], help="more settings of a run")
    parser.add_argument("--picotron", type=Path, help="a checkout of huggingface/picotron")
    parser.add_argument("--rounds", type=int, default=24)
    options = parser.parse_args()
    settings = [f"model={options.model}", "model.attention=dense", "layout=single", "device=cpu"]
    sizes = [f"layout.{size}" for size in options.layout.split(",") if size]
    run = compose_run([*settings, *sizes, *options.settings])
    layout = Layout.resolve(run.layout, None)
    if "RANK" not in os.environ:
        sys.exit(_start(layout.world_size))
    _compare(run, layout, options)


def _start(ranks: int) -> int:
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [sys.executable, "-m", *torchrun, "-m", "benchmarks.other_trainers", *sys.argv[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.run(command, env=environment).returncode


def _compare(run: Run, layout: Layout, options: argparse.Namespace) -> None:
    warnings.filterwarnings("ignore")
    rank = int(os.environ["RANK"])
    device = open_device(DeviceName.cpu, rank, layout.world_size)
    torch.distributed.init_process_group(device.backend)
    from benchmarks.megatron_local import as_it_comes, engine_step, local_spec
    from benchmarks.picotron_trainer import picotron_trainer
    from benchmarks.torch_trainer import torch_trainer
    from launcher.build import running_engine

    shape = ModelShape.of(run.model)
    with running_engine(run, device) as engine, local_spec():
        steps: dict[str, Step] = {
            "engine": _loss_of(engine_step(engine, run)),
            "Megatron-core's local spec": _loss_of(engine_step(as_it_comes(run, engine), run)),
        }
        steps["PyTorch's own"] = torch_trainer(shape, layout, run.optimizer)
        if options.picotron:
            steps["picotron"] = picotron_trainer(options.picotron, shape, layout)
        made = [_micro_batches(run, layout, rank, number) for number in range(8)]
        for name, step in steps.items():
            _learns(name, step, made[0])
        batches = itertools.cycle(made)
        blocks = {name: _block(step, batches) for name, step in steps.items()}
        blocks["engine again"] = blocks["engine"]
        result = paired.measure(blocks, rounds=options.rounds, steps=1)
    if rank == 0:
        paired.show(result, f"{run.model.name}, dense, {options.layout}")
    torch.distributed.destroy_process_group()


def _micro_batches(run: Run, layout: Layout, rank: int, number: int) -> list[Tensor]:
    """This rank's [B, T + 1] of a step: random tokens, a third of them one and the same."""
    generator = torch.Generator().manual_seed(number)
    size = (run.train.global_batch, run.model.context + 1)
    tokens = torch.randint(0, run.model.vocab, size, generator=generator)
    tokens[:, ::3] = 1
    share = tokens.chunk(layout.data)[rank % layout.data]
    return list(share.split(run.layout.micro_batch))  # type: ignore[no-untyped-call]


def _learns(name: str, step: Step, micro_batches: list[Tensor]) -> None:
    """Ends the comparison where a trainer does not get better at what it has just seen."""
    losses = [loss for _ in range(5) if (loss := step(micro_batches)) is not None]
    if losses and torch.distributed.get_rank() == torch.distributed.get_world_size() - 1:
        print(f"{name}: loss {losses[0]:.3f}, after four steps {losses[-1]:.3f}", flush=True)
    if losses and losses[-1] >= losses[0] and losses[0] > 0:
        sys.exit(f"{name} does not learn: {losses}")


def _loss_of(step: Callable[[list[Tensor]], tuple[float, float]]) -> Step:
    return lambda micro_batches: step(micro_batches)[0]


def _block(step: Step, batches: Iterator[list[Tensor]]) -> paired.Block:
    def block(steps: int) -> None:
        for _ in range(steps):
            step(next(batches))

    return block


if __name__ == "__main__":
    main()
