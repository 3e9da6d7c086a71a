"""Tensor ranks share each expert, stages have the biases of their own layers: all say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from configs.schema import DeviceName, Precision
from models.shape import ModelShape
from parallel.layout import Layout
from tests import mixtures
from tests.asking import large_weights
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool
from tests.training import global_batch

SHAPES = [mixtures.SIGMOID, mixtures.BIASED, replace(mixtures.SAID, query_groups=4)]
LAYOUTS = [
    Layout(tensor=2),
    Layout(tensor=2, pipeline=2),
    Layout(pipeline=2, stage_layers=(1, 3)),
]
ROWS = global_batch(5)[:4, : mixtures.SAID.context].tolist()


def asked(shape: ModelShape, layout: Layout) -> Any:
    """A job: logits after rows of several lengths, with biases and without, and what a rank has."""
    from parallel.inference.model import InferenceModel, Rows
    from parallel.runtime.device import Device
    from parallel.runtime.process_groups import process_groups

    device = Device(DeviceName.cpu, torch.device("cpu"), "gloo")
    prompts = [row[: 3 + 4 * number] for number, row in enumerate(ROWS)]
    size = (len(prompts), shape.vocab)
    with process_groups(layout, 0):
        model = InferenceModel(shape, layout, precision=Precision.float32, device=device)
        weights = large_weights(shape)
        for key in weights:
            if key.endswith("bias"):  # which are zero before training
                weights[key] = weights[key] + torch.linspace(-1, 1, len(weights[key]))
        model.take(weights)
        found = []
        for bias in (mixtures.router_bias(shape), None):
            model.import_router_bias(bias)
            rows = Rows(model, prompts, shape.context)
            found.append(rows.choose(lambda it: it.double(), size))
            rows.extend([5] * len(prompts))
            found.append(rows.choose(lambda it: it.double(), size))
        return torch.stack(found), {at.name: tuple(at.shape) for at in model.parameters()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("shape", SHAPES, ids=mixtures.NAMES.get)
def test_logits_are_those_of_one_rank(ranks: RankPool, shape: ModelShape, layout: Layout) -> None:
    ((expected, _),) = ranks.run(1, asked, shape, Layout())
    assert not torch.allclose(expected[0], expected[2]), "biases change what is chosen"
    for found, held in ranks.run(layout.world_size, asked, shape, layout):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        for key, size in held.items():
            if key.endswith("router.weight"):
                assert size == (shape.moe.experts, shape.hidden), "whole on every rank"
            if ".experts." in key and key.endswith("fc2.weight"):
                assert size == (shape.hidden, shape.expert_feed_forward // layout.tensor)
