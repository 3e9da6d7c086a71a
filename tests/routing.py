"""Trains a tiny mixture of experts and records which experts every token was sent to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from configs.schema import EngineConfig
from configs.settings.network import Balance, MoeConfig
from models.shape import ModelShape
from parallel.engines.base import StepResult
from parallel.layout import Layout
from tests import training
from tests.families import QWEN3
from tests.training import GLOBAL_BATCH, MEGATRON, Curve

MOE = MoeConfig(experts=8, top_k=2, feed_forward=16, balance_weight=0.05, z_loss=0.01)
MIXTURE = replace(QWEN3, moe=MOE, tied=False)
"""By sequence, with a z-loss, every layer with experts."""
SHARED = replace(
    QWEN3,
    moe=replace(MOE, dense_layers=1, shared=24, balance=Balance.batch, renormalise=False),
)
"""Balanced by the global batch; the first layer dense; a shared expert; weights as they are."""
NAMES = {MIXTURE: "mixture", SHARED: "shared"}


@dataclass(frozen=True)
class Routed:
    """A run's curve, what its routers reported in each step, and what they chose.

    Attributes:
        chosen: [steps, layers with experts, samples, tokens, experts].
    """

    curve: Curve
    routings: list[Any]
    chosen: Tensor


def train_routed(
    layout: Layout, steps: int, shape: ModelShape = MIXTURE, config: EngineConfig = MEGATRON
) -> Any:
    """A job: the results of each step, this rank's weights, and the choices that it made."""
    with training.engine(layout, shape=shape, config=config) as engine:
        chosen = torch.zeros(
            steps, len(shape.expert_layers), GLOBAL_BATCH, shape.context, shape.moe.experts
        )
        results: list[StepResult] = []
        hooks = [
            router.register_forward_hook(_recorder(layout, chosen, results, router.index))
            for router in _routers(engine)
        ]
        for step in range(1, steps + 1):
            batch = training.batch_here(layout, step, shape)
            results.append(engine.train_step(batch, training.ADAM.learning_rate))
        for hook in hooks:
            hook.remove()
        return results, training.weights_here(engine), chosen


def _routers(engine: Any) -> list[Any]:
    from models.training.router import Router

    modules = engine.chunks if hasattr(engine, "chunks") else [engine.model]
    return [each for module in modules for each in module.modules() if isinstance(each, Router)]


def _recorder(layout: Layout, chosen: Tensor, results: list[StepResult], layer: int) -> Any:
    from models.training.context.split import Split

    at = layout.coordinates(torch.distributed.get_rank())
    micro_batches = [list(each) for each in layout.samples_of(at.data, GLOBAL_BATCH)]
    positions = Split.here().positions(chosen.shape[3] // layout.context, torch.device("cpu"))
    if layout.sequence_parallel:
        positions = positions.chunk(layout.tensor)[at.tensor]
    calls = count()

    def record(_router: Any, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        if not torch.is_grad_enabled():  # what recomputation does again
            return
        samples = micro_batches[next(calls) % len(micro_batches)]
        mask = output[1].view(len(positions), len(samples), -1).transpose(0, 1)
        into = chosen[len(results), layer]
        into[torch.tensor(samples)[:, None], positions[None]] += mask.float()

    return record


def routed(answers: list[Any], layout: Layout) -> Routed:
    """What all ranks did; they must agree, and each token must have been routed once."""
    results = answers[0][0]
    curve = training.assemble(
        [([(r.loss, r.grad_norm) for r in each], weights) for each, weights, _ in answers]
    )
    routings = [result.routing for result in results]
    assert all([r.routing for r in each] == routings for each, _, _ in answers)
    chosen = torch.stack([choices for _, _, choices in answers]).sum(0)
    alone = layout.tensor if not layout.sequence_parallel else 1  # which route the same tokens
    return Routed(curve, routings, chosen / alone)
