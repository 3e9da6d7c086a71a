"""The engine's training step against Megatron-core's local spec as it comes.

`python -m benchmarks.trainers.megatron_local` builds the same model twice under the `megatron`
engine: of our layers, and of those of Megatron-core's `get_gpt_layer_local_spec`, whose attention
writes out all scores. Both begin with the same weights and have to give the same loss and gradient
norm. Then they take turns, each in a process of its own. One rank, float32, dense attention, which
is all that the local spec has on CPU.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import paired
from benchmarks.trainers.plain_pytorch import (
    Step,
    batches_of,
    block_of,
    compare_losses,
    engine_on_one_rank,
    show_profile,
)
from benchmarks.trainers.turns import ENGINE, LOCAL, take_turns
from configs.schema import Run
from configs.settings.network import Norm, Positions
from launcher.command_line.compose import compose_run
from models.shape import ModelShape
from parallel.layout import Layout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="gpt3_nano")
    parser.add_argument("--rounds", type=int, default=42)
    parser.add_argument("--steps", type=int, default=1, help="of each block in a round")
    parser.add_argument("--settings", nargs="*", default=[], help="more settings of a run")
    parser.add_argument("--profile", action="store_true", help="time by operator")
    options = parser.parse_args()
    settings = [f"model={options.model}", "model.attention=dense", "layout=single", "device=cpu"]
    settings += options.settings
    run = compose_run(settings)
    with engine_on_one_rank(run) as engine, local_spec():
        local = as_it_comes(built_like(run, engine))
        sides = {LOCAL: engine_step(local, run), ENGINE: engine_step(engine, run)}
        compare_losses(sides, batches_of(run))
        if options.profile:
            batches = itertools.cycle(batches_of(run))
            show_profile(*(block_of(step, batches) for step in sides.values()))
    rounds, steps = options.rounds, options.steps
    result = take_turns([LOCAL, ENGINE], settings, ranks=1, rounds=rounds, steps=steps)
    paired.show(result, f"{run.model.name}, dense, on one rank")


def engine_step(engine: Any, run: Run) -> Step:
    """At a tenth of the run's learning rate, so that a few steps on random tokens do no harm."""
    from parallel.engines.base import Batch

    rate = run.optimizer.learning_rate / 10

    def step(micro_batches: list[Tensor]) -> tuple[float, float]:
        result = engine.train_step(Batch(micro_batches=micro_batches), rate)
        return result.loss, result.grad_norm

    return step


def as_it_comes(engine: Any) -> Any:
    """An engine that was built within `local_spec`, with torch's Adam as Megatron-core takes it."""
    for group in engine.optimizer.param_groups:
        group["fused"] = None  # as torch chooses
    return engine


def built_like(run: Run, engine: Any) -> Any:
    """Another engine of the same run, on the same device."""
    from parallel.engines.megatron.engine import MegatronEngine

    return MegatronEngine(
        ModelShape.of(run.model),
        Layout.resolve(run.layout, None),
        run.optimizer,
        precision=run.precision,
        device=engine.device,
        seed=run.train.seed,
    )


def _normalization(shape: ModelShape) -> str:
    return "RMSNorm" if shape.norm is Norm.rms else "LayerNorm"


@contextmanager
def local_spec() -> Iterator[None]:
    """Within it `megatron` engines are built of Megatron-core's local spec, and run with it."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer import utils
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules

    from parallel.engines.megatron import config as megatron_config

    def block(shape: ModelShape, layers: list[int], **_ours: Any) -> TransformerBlockSubmodules:
        spec = get_gpt_layer_local_spec(normalization=_normalization(shape))
        norm = spec.submodules.input_layernorm
        return TransformerBlockSubmodules(layer_specs=[spec] * len(layers), layer_norm=norm)

    def config(*args: Any, **options: Any) -> Any:
        made = megatron_config.transformer_config(*args, **options)
        made.on_cpu = False  # its own linears and loss too
        made.use_te_activation_func = False
        if not made.gated_linear_unit:
            made.activation_func = partial(torch.nn.functional.gelu, approximate="tanh")
        if args[0].positions is Positions.rotary:
            made.position_embedding_type = "rope"
            made.apply_rope_fusion = False
        return made

    def causal_mask(tokens: int) -> Tensor:
        # Megatron-core makes it on CUDA, wherever the model is.
        return torch.ones(tokens, tokens).triu(1).bool()

    assert hasattr(utils, "get_default_causal_mask")
    with (
        mock.patch("models.training.gpt.block_spec", block),
        mock.patch("parallel.engines.megatron.engine.transformer_config", config),
        mock.patch("megatron.core.fusions.fused_softmax.get_default_causal_mask", causal_mask),
    ):
        yield


if __name__ == "__main__":
    main()
