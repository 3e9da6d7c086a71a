"""The engine's training step against the same model in plain PyTorch.

`python -m benchmarks.trainers.plain_pytorch` puts the engine's weights into a model of nn.Linear
and nn.LayerNorm, shows that both give the same loss and gradient norm, then has them take turns,
each in a process of its own: one rank, float32, the same micro-batches, Adam, clipping and threads.
`--profile` adds which of torch's operators make the difference, in one process.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity

from benchmarks import paired
from benchmarks.trainers.turns import ENGINE, PLAIN, TRANSFORMERS, take_turns
from configs.schema import DeviceName, Run
from launcher.command_line.compose import compose_run
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.runtime.device import open_device

if TYPE_CHECKING:
    from parallel.engines.megatron.engine import MegatronEngine

SAME = 1e-5  # relative, of the first step's loss and gradient norm
STEPS_COMPARED = 5
Step = Callable[[list[Tensor]], tuple[float, float]]
"""Micro-batches to loss and gradient norm."""


def main() -> None:
    options = _options()
    settings = [f"model={options.model}", "layout=single", "device=cpu", *options.settings]
    run = compose_run(settings)
    with engine_on_one_rank(run) as engine:
        compare_losses(both_sides(engine, run, exact_norm=True), batches_of(run))
        if options.profile:
            batches = itertools.cycle(batches_of(run))
            sides = both_sides(engine, run)
            show_profile(*(block_of(step, batches) for step in sides.values()))
    rounds, steps = options.rounds, options.steps
    names = [PLAIN, ENGINE, *([TRANSFORMERS] if options.transformers else [])]
    result = take_turns(names, settings, ranks=1, rounds=rounds, steps=steps)
    paired.show(result, f"{run.model.name} on one rank")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="gpt3_nano")
    parser.add_argument("--rounds", type=int, default=42)
    parser.add_argument("--steps", type=int, default=1, help="of each block in a round")
    parser.add_argument("--settings", nargs="*", default=[], help="more settings of a run")
    parser.add_argument("--profile", action="store_true", help="time by operator")
    parser.add_argument("--transformers", action="store_true", help="its Llama too")
    return parser.parse_args()


@contextmanager
def engine_on_one_rank(run: Run) -> Iterator[MegatronEngine]:
    warnings.filterwarnings("ignore", module=r"megatron\..*|torch\..*")
    device = open_device(DeviceName.cpu, 0, 1)
    store = HashStore()
    torch.distributed.init_process_group(device.backend, store=store, rank=0, world_size=1)
    from parallel.engines.running import running_engine

    try:
        with running_engine(run, Layout.resolve(run.layout, None), device) as engine:
            yield cast("MegatronEngine", engine)
    finally:
        torch.distributed.destroy_process_group()


def batches_of(run: Run) -> list[list[Tensor]]:
    """Micro-batches [B, T + 1] of a few steps: random tokens, a third of them one and the same."""
    generator = torch.Generator().manual_seed(run.train.seed)
    size = (STEPS_COMPARED, run.train.global_batch, run.model.context + 1)
    tokens = torch.randint(0, run.model.vocab, size, generator=generator)
    tokens[..., ::3] = 1  # something to learn
    return [list(step.split(run.layout.micro_batch)) for step in tokens]


def both_sides(engine: MegatronEngine, run: Run, *, exact_norm: bool = False) -> dict[str, Step]:
    """The base first. Both begin with the engine's weights."""
    from benchmarks.trainers.others.plain_gpt import PlainTraining, plain_model
    from parallel.engines.base import Batch

    model = plain_model(ModelShape.of(run.model))
    model.take(engine.named_tensors())
    plain = PlainTraining(model, run.optimizer)
    rate = run.optimizer.learning_rate / 10

    def engine_step(micro_batches: list[Tensor]) -> tuple[float, float]:
        result = engine.train_step(Batch(micro_batches=micro_batches), rate)
        return result.loss, result.grad_norm

    return {
        PLAIN: lambda micro_batches: plain.step(micro_batches, rate, exact_norm=exact_norm),
        ENGINE: engine_step,
    }


def compare_losses(sides: dict[str, Step], batches: list[list[Tensor]]) -> None:
    """Takes a step of both on each batch. Exits where the first ones differ by more than SAME."""
    plain, engine = sides.values()
    for number, micro_batches in enumerate(batches, start=1):
        loss, norm = plain(micro_batches)
        own_loss, own_norm = engine(micro_batches)
        differs = [abs(own_loss / loss - 1), abs(own_norm / norm - 1)]
        if number in (1, len(batches)):
            print(
                f"step {number}: loss {loss:.6f} and {own_loss:.6f}, relative difference "
                f"{differs[0]:.1e}; gradient norm {norm:.6f} and {own_norm:.6f}, {differs[1]:.1e}"
            )
        if number == 1 and max(differs) > SAME:
            sys.exit(f"the two are not the same model: they differ by more than {SAME:.0e}")


def block_of(step: Step, batches: Iterator[list[Tensor]]) -> paired.Block:
    def block(steps: int) -> None:
        for _ in range(steps):
            step(next(batches))

    return block


def show_profile(plain: paired.Block, engine: paired.Block) -> None:
    """The operators in which the two differ most."""
    of_plain, of_engine = operators([plain, engine])
    names = sorted(
        of_plain.keys() | of_engine.keys(),
        key=lambda name: -abs(of_engine.get(name, 0.0) - of_plain.get(name, 0.0)),
    )
    table = Table(title="self time by operator, ms a step", box=box.SIMPLE)
    table.add_column("")
    for heading in ("plain PyTorch", "engine", "difference"):
        table.add_column(heading, justify="right")
    for name in [*names[:20], "all"]:
        base = of_plain.get(name, 0.0) if name in names else sum(of_plain.values())
        own = of_engine.get(name, 0.0) if name in names else sum(of_engine.values())
        table.add_row(name, f"{base:.1f}", f"{own:.1f}", f"{own - base:+.1f}")
    Console(markup=False, width=100).print(table)


def operators(blocks: list[paired.Block], repeats: int = 7) -> list[dict[str, float]]:
    """Milliseconds a step by operator, without what it calls: the least of a few steps in turn.

    The least, because what else the machine does only ever adds.
    """
    least: list[dict[str, float]] = [{} for _ in blocks]
    for _ in range(repeats):
        for known, block in zip(least, blocks, strict=True):
            with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profile:
                block(1)
            for event in profile.key_averages():
                time = event.self_cpu_time_total / 1000
                known[event.key] = min(time, known.get(event.key, time))
    return least


if __name__ == "__main__":
    main()
