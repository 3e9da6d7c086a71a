"""Split sequences, and documents apart: `python -m benchmarks.trainers.long_context`.

Three tables: a training step of two ranks of context 2, each on one core, by each way, against one
rank on one core; the peak of their activations by the trace; and an attention layer over documents
against the dense causal one, forward and backward.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import paired
from benchmarks.trainers.turns import ENGINE, TRAINER, Program
from configs.schema import ContextBy, DeviceName
from launcher.command_line.compose import compose_run
from models.shape import ModelShape
from models.training.attention import DenseAttention
from parallel.engines.cuda_features import cuda_features
from parallel.engines.megatron.config import transformer_config
from parallel.layout import Layout
from parallel.planner.trace.memory_tracker import Category
from parallel.planner.trace.trace import trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="llama_nano")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--document", type=int, default=512, help="tokens of a document")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    settings = [
        *(f"model={options.model}", f"model.context={options.tokens}", "layout=single"),
        *("device=cpu", "layout.micro_batch=1", "train.global_batch=1"),
        *("optimizer.ramp_tokens=0", "train.steps=100"),
    ]
    of_documents(settings, options.document, options.rounds)
    of_activations(settings)
    of_ranks(settings, options.rounds)


def of_documents(settings: list[str], each: int, rounds: int) -> None:
    """Attention of one layer, on all cores."""
    run = compose_run(settings)
    shape, layout, here = ModelShape.of(run.model), Layout(), (run.precision, DeviceName.cpu)
    features = cuda_features(run.cuda, layout, run.engine.name, *here)
    config = transformer_config(shape, layout, *here, run.cuda, features)
    attention = DenseAttention(config, 1, shape=shape)
    heads = (shape.heads, shape.query_groups, shape.query_groups)
    tokens = [torch.randn(shape.context, 1, n, shape.head_width) for n in heads]
    inputs = [it.requires_grad_() for it in tokens]
    places = torch.arange(shape.context, dtype=torch.int32)
    regular = (places - places % each)[None]
    ends = torch.randperm(shape.context - 1, generator=torch.Generator().manual_seed(0)) + 1
    begins, _ = torch.cat([torch.zeros(1), ends[: shape.context // each - 1]]).int().sort()
    irregular = begins[torch.searchsorted(begins, places, right=True) - 1][None]

    def block(starts: torch.Tensor | None) -> Callable[[int], None]:
        def run(steps: int) -> None:
            for _ in range(steps):
                out = attention(*inputs, starts)
                torch.autograd.grad(out, inputs, torch.ones_like(out))

        return run

    blocks = {
        f"documents of {each}": block(regular),
        f"documents of {each} on average": block(irregular),
        "dense causal": block(None),
    }
    found = paired.measure(blocks, rounds=rounds, steps=1)
    paired.show(found, f"attention over {shape.context:,} tokens", torch.get_num_threads())


def of_activations(settings: list[str]) -> None:
    """By the trace, which executes the engine's own code."""
    table = Table(title="peak activations of a rank, by the trace", box=box.SIMPLE)
    for heading in ("layout", "MiB", "of one rank's"):
        table.add_column(heading, justify="right")
    base = 0.0
    for way in (None, *ContextBy):
        split = [] if way is None else ["layout.context=2", f"layout.context_by={way}"]
        run = compose_run([*settings, *split])
        layout = Layout.resolve(run.layout, None)
        at_peak = trace(run, layout, 0, device=DeviceName.cpu).at_peak
        size = sum(at_peak.get(each, 0) for each in (Category.activations, Category.logits))
        base = base or size
        table.add_row(f"{layout} {way or ''}", f"{size / 2**20:.1f}", f"{size / base:.2f}")
    Console(markup=False, width=120).print(table)


def of_ranks(settings: list[str], rounds: int) -> None:
    """Each program's ranks have a core each; they take turns."""
    with ExitStack() as stack:
        blocks: dict[str, paired.Block] = {}
        for way in (None, *ContextBy):
            split = [] if way is None else ["layout.context=2", f"layout.context_by={way}"]
            arguments = ["-m", TRAINER, "--name", ENGINE, *settings, *split]
            program = Program(arguments, 1 if way is None else 2, threads_each=1)
            stack.callback(program.close)
            program.wait()
            blocks["one rank" if way is None else f"context=2, {way}"] = program
        blocks["one rank again"] = blocks["one rank"]
        found = paired.measure(blocks, rounds=max(5, rounds // 3), steps=1)
    paired.show(found, f"a step of {' '.join(settings[:2])} on one core a rank", 1)


if __name__ == "__main__":
    main()
