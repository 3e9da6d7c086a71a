"""Both attentions against softmax(q k) v with the mask written out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.ops.attention.banded import band_mask
from models.shape import ModelShape
from models.training.attention import BandedAttention, DenseAttention
from tests.training import network_config

SHAPE = ModelShape(layers=1, hidden=24, heads=3, context=64, vocab=9)


def plain(q_TBNH: Tensor, k_TBNH: Tensor, v_TBNH: Tensor, mask_TT: Tensor) -> Tensor:
    score_BNTT = torch.einsum("tbnh,sbnh->bnts", q_TBNH, k_TBNH) / math.sqrt(q_TBNH.shape[-1])
    weight_BNTT = score_BNTT.masked_fill(~mask_TT, -math.inf).softmax(-1)
    return torch.einsum("bnts,sbnh->tbnh", weight_BNTT, v_TBNH).flatten(2)


def inputs(tokens: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    return [
        torch.randn(tokens, 2, 3, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]


def assert_same(attention: torch.nn.Module, mask_TT: Tensor, tokens: int) -> None:
    got, expected = inputs(tokens), inputs(tokens)
    out, reference = attention(*got), plain(expected[0], expected[1], expected[2], mask_TT)
    torch.testing.assert_close(out, reference)
    weights = torch.arange(out.numel(), dtype=torch.float64).view_as(out).sin()
    torch.autograd.backward([(out * weights).sum(), (reference * weights).sum()])
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def banded(window: int) -> BandedAttention:
    shape = replace(SHAPE, window=window)
    return BandedAttention(network_config(shape), 1, shape=shape)


@pytest.mark.parametrize("tokens", [1, 7, 33])
def test_dense(tokens: int) -> None:
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    assert_same(DenseAttention(network_config(SHAPE), 1, shape=SHAPE), causal, tokens)


@pytest.mark.parametrize(("tokens", "window"), [(1, 1), (9, 1), (9, 4), (33, 5), (12, 12), (5, 50)])
def test_banded(tokens: int, window: int) -> None:
    mask = torch.tensor(
        [
            [key <= query and query - key < window for key in range(tokens)]
            for query in range(tokens)
        ]
    )
    assert torch.equal(band_mask(tokens, window, torch.device("cpu")), mask)
    assert_same(banded(window), mask, tokens)


def test_one_banded_layer_serves_any_length() -> None:
    attention = banded(3)
    for tokens in (5, 9, 5):
        assert_same(attention, band_mask(tokens, 3, torch.device("cpu")), tokens)
