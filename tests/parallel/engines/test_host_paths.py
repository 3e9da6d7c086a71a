"""What a CPU does in its own way trains as Megatron-core's own way does: losses, norms, weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch

from configs.schema import EngineConfig, Precision, Recompute
from parallel.layout import Layout
from parallel.parity import Tolerance, compare
from tests import training
from tests.layouts import name
from tests.pool import RankPool
from tests.training import DEEPSPEED, MEGATRON

STEPS = 4


def plainly(job: Callable[..., Any], layout: Layout, *rest: Any) -> Any:
    """A job: another, by Megatron-core's linears and loss, and torch's Adam as it comes."""
    from parallel.engines.deepspeed import engine as deepspeed_engine
    from parallel.engines.megatron import config as megatron_config
    from parallel.engines.megatron import engine as megatron_engine

    def config(*args: Any, **options: Any) -> Any:
        made = megatron_config.transformer_config(*args, **options)
        made.on_cpu = False
        return made

    class Plain(torch.optim.AdamW):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            for group in self.param_groups:
                group["fused"] = False
            return super().step(*args, **kwargs)

    with (
        patch.object(megatron_engine, "transformer_config", config),
        patch.object(deepspeed_engine, "transformer_config", config),
        patch("megatron.core.optimizer.Adam", Plain),
    ):
        return job(layout, *rest)


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        (Layout(micro_batch=2), MEGATRON),
        (Layout(tensor=2, micro_batch=4), MEGATRON),
        (Layout(tensor=2, micro_batch=4, sequence_parallel=True), MEGATRON),
        (Layout(tensor=2, pipeline=2, micro_batch=2), MEGATRON),
        (Layout(data=2, micro_batch=2, zero=1, recompute=Recompute.full), MEGATRON),
        (Layout(tensor=2, data=2, micro_batch=2, zero=2), DEEPSPEED),
        (Layout(tensor=2, pipeline=2, micro_batch=2), DEEPSPEED),
    ],
    ids=lambda it: name(it) if isinstance(it, Layout) else str(it.name.value),
)
def test_trains_as_the_plain_way(ranks: RankPool, layout: Layout, config: EngineConfig) -> None:
    words = (layout, STEPS, Precision.float32, training.SHAPE, config)
    ours = training.assemble(ranks.run(layout.world_size, training.train, *words))
    plain = ranks.run(layout.world_size, plainly, training.train, *words)
    comparison = compare(
        ours.trace(), training.assemble(plain).trace(), Tolerance.of(Precision.float32)
    )
    assert comparison.agrees, comparison
