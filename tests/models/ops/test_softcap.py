"""Logits bounded by a tanh."""

from __future__ import annotations

import pytest
import torch

from models.ops.padding import mask_padding
from models.ops.softcap import capped


def test_small_logits_stay_and_large_ones_reach_the_cap() -> None:
    logits = torch.tensor([0.0, 0.01, -0.01, 1e4, -1e4], dtype=torch.float64)
    bounded = capped(logits, 20.0)
    torch.testing.assert_close(bounded[:3], logits[:3], rtol=1e-6, atol=0)
    torch.testing.assert_close(bounded[3:], torch.tensor([20.0, -20.0], dtype=torch.float64))


def test_its_gradient_is_right() -> None:
    logits = torch.linspace(-50, 50, 31, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda it: capped(it, 20.0), logits)


def test_without_a_cap_nothing_happens() -> None:
    logits = torch.randn(3)
    assert capped(logits, None) is logits


@pytest.mark.parametrize("cap", [None, 20.0])
def test_padding_stays_out_of_the_softmax_and_of_the_gradient(cap: float | None) -> None:
    leaf = torch.randn(2, 8, requires_grad=True)
    logits = capped(leaf * 1, cap)
    mask_padding(logits, 5, 0)
    logits.log_softmax(-1)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert torch.all(logits[:, 5:] == -torch.inf)
    assert torch.all(leaf.grad[:, 5:] == 0)
    assert torch.all(leaf.grad[:, :5].isfinite())
