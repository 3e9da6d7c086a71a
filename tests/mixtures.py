"""Shapes of layers with experts, for the tests of inference and of Hugging Face's formats."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from configs.settings.network import Biases, MoeConfig, Residual, RouterScore
from models.shape import ModelShape
from tests import families

# A Qwen 3 whose first layer is dense: what a family of Hugging Face's can be.
SAID = replace(
    families.QWEN3, moe=MoeConfig(experts=6, top_k=2, feed_forward=24, dense_layers=1), tied=False
)
# What none can be: a shared expert, scores by a sigmoid, scaled, and a bias on the choice.
SIGMOID = replace(
    families.LLAMA,
    moe=MoeConfig(
        experts=6,
        top_k=3,
        feed_forward=24,
        dense_layers=1,
        shared=40,
        score=RouterScore.sigmoid,
        scale=2.5,
        bias_rate=1e-3,
        capacity=1.0,
    ),
)
# The same with biases and norms behind.
BIASED = replace(SIGMOID, biases=Biases.all, residual=Residual.post_norm, norm_epsilon=1e-3)
NAMES = {SAID: "qwen3_moe", SIGMOID: "sigmoid", BIASED: "biased"}


def router_bias(shape: ModelShape) -> Tensor:
    """As large as the differences between experts' scores, so that it changes what is chosen."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(shape.expert_layers), shape.moe.experts, generator=generator) / 3
