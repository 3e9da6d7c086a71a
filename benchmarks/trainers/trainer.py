"""One trainer of those that are compared, on one rank of its own, which turns.py starts.

All train the same model, a GPT-3 or a Llama, in float32 on the same tokens, on a CPU: the engine;
the same engine around Megatron-core's local spec as it comes; plain PyTorch; PyTorch's own
parallelism; picotron; transformers.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import warnings
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.trainers.turns import (
    ENGINE,
    LOCAL,
    PICOTRON,
    PLAIN,
    TORCH,
    TRANSFORMERS,
    serve,
)
from configs.schema import DeviceName, Run
from launcher.command_line.compose import compose_run
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.runtime.device import Device, open_device

if TYPE_CHECKING:  # each process imports the trainer that it runs, and no other
    from benchmarks.trainers.others.torch_trainer import Step

_BATCHES = 8  # made beforehand, used in turn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--picotron", default="", help="a checkout of huggingface/picotron")
    parser.add_argument("settings", nargs="*", help="of a run")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    run = compose_run(options.settings)
    layout = Layout.resolve(run.layout, None)
    with ExitStack() as around:
        around.enter_context(_within(options.name))
        torch.distributed.init_process_group("gloo")
        step = _build(options.name, run, layout, options.picotron, around)
        rank = torch.distributed.get_rank()
        batches = [_micro_batches(run, layout, rank, number) for number in range(_BATCHES)]
        _learns(options.name, step, batches[0])
        endless = itertools.cycle(batches)

        def block(steps: int) -> None:
            for _ in range(steps):
                step(next(endless))

        serve(block)


def _within(name: str) -> AbstractContextManager[Any]:
    """What has to be around a trainer from before it is built."""
    if name == ENGINE:
        open_device(DeviceName.cpu, 0, _world())
    if name != LOCAL:
        return nullcontext()
    from parallel.runtime import cpu_bridge

    cpu_bridge.install()  # without which Megatron-core does not run on a CPU; nothing else of ours
    from benchmarks.trainers.megatron_local import local_spec

    return local_spec()


def _build(name: str, run: Run, layout: Layout, picotron: str, around: ExitStack) -> Step:
    shape = ModelShape.of(run.model)
    if name == PLAIN:
        return _plain(shape, run)
    if name == TORCH:
        from benchmarks.trainers.others.torch_trainer import torch_trainer

        return torch_trainer(shape, layout, run.optimizer)
    if name == TRANSFORMERS:
        from benchmarks.trainers.others.transformers_trainer import transformers_trainer

        return transformers_trainer(shape, run.optimizer)
    if name == PICOTRON:
        from benchmarks.trainers.others.picotron_trainer import picotron_trainer

        return picotron_trainer(Path(picotron), shape, layout)
    from parallel.runtime.process_groups import process_groups

    around.enter_context(process_groups(layout, run.train.seed, run.launch.timeout_s))
    return _megatron(name, run, layout)


def _megatron(name: str, run: Run, layout: Layout) -> Step:
    from benchmarks.trainers.megatron_local import as_it_comes, engine_step
    from parallel.engines.megatron.engine import MegatronEngine

    device = Device(DeviceName.cpu, torch.device("cpu"), "gloo")
    engine = MegatronEngine(
        ModelShape.of(run.model),
        layout,
        run.optimizer,
        precision=run.precision,
        device=device,
        seed=run.train.seed,
    )
    step = engine_step(engine if name == ENGINE else as_it_comes(engine), run)
    return lambda micro_batches: step(micro_batches)[0]


def _plain(shape: ModelShape, run: Run) -> Step:
    from benchmarks.trainers.others.plain_gpt import PlainTraining, plain_model

    torch.manual_seed(run.train.seed)
    model = plain_model(shape)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    training = PlainTraining(model, run.optimizer)
    rate = run.optimizer.learning_rate / 10
    return lambda micro_batches: training.step(micro_batches, rate)[0]


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
    if losses and torch.distributed.get_rank() == _world() - 1:
        print(f"{name}: loss {losses[0]:.3f}, after four steps {losses[-1]:.3f}", flush=True)
    if losses and losses[-1] >= losses[0] and losses[0] > 0:
        sys.exit(f"{name} does not learn: {losses}")


def _world() -> int:
    return int(os.environ["WORLD_SIZE"])


if __name__ == "__main__":
    main()
