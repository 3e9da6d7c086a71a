"""Attention of grouped heads against each query's own copy of its group's keys and values."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.attention.banded import band_mask, blocked_attention
from models.ops.attention.flex import flex_attention
from models.ops.attention.grouped import _repeated, attend

GROUPS = [1, 2, 6]  # of six heads


def inputs(tokens: int, groups: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    # As a layer gives them: heads apart in memory, tokens outermost.
    made = [torch.randn(tokens, 2, heads, 16, generator=generator) for heads in (6, groups, groups)]
    return [it.permute(1, 2, 0, 3).requires_grad_() for it in made]


def own_copies(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    each = query.shape[1] // key.shape[1]
    key, value = (it.repeat_interleave(each, 1) for it in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def results(attention: partial[Tensor], tokens: int, groups: int) -> list[Tensor]:
    given = inputs(tokens, groups)
    out = attention(*given)
    weights = torch.arange(out.numel(), dtype=torch.float32).sin().view_as(out)
    return [out, *torch.autograd.grad(out, given, weights)]


def assert_same(ours: partial[Tensor], mask: Tensor, tokens: int, groups: int) -> None:
    expected = results(partial(own_copies, mask=mask), tokens, groups)
    for got, true in zip(results(ours, tokens, groups), expected, strict=True):
        torch.testing.assert_close(got, true)


@pytest.mark.parametrize("groups", GROUPS)
def test_causal(groups: int) -> None:
    causal = torch.ones(33, 33, dtype=torch.bool).tril()
    assert_same(partial(attend, causal=True), causal, 33, groups)


@pytest.mark.parametrize("groups", GROUPS)
def test_masked(groups: int) -> None:
    mask = band_mask(33, 5, torch.device("cpu"))
    assert_same(partial(attend, mask=mask), mask, 33, groups)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(("tokens", "window"), [(50, 7), (129, 1), (200, 70), (256, 64)])
def test_banded_in_blocks(tokens: int, window: int, groups: int) -> None:
    mask = band_mask(tokens, window, torch.device("cpu"))
    assert_same(partial(blocked_attention, window=window), mask, tokens, groups)


def test_banded_by_flex() -> None:
    query, key, value = (it.detach() for it in inputs(128, 2))
    expected = own_copies(query, key, value, mask=band_mask(128, 32, torch.device("cpu")))
    torch.testing.assert_close(flex_attention(query, key, value, window=32), expected)


def test_heads_repeated_for_a_kernel_without_groups_are_the_same() -> None:
    query, key, value = (it.detach() for it in inputs(9, 2))
    repeated = attend(query, _repeated(key, 3), _repeated(value, 3), causal=True)
    torch.testing.assert_close(repeated, attend(query, key, value, causal=True))
