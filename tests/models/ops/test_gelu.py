"""The GELU from a sigmoid against torch's, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops import gelu as module
from models.ops.gelu import host_gelu


def given() -> Tensor:
    """[7, 5, 3] and wide enough: both tails, zero, and where the slope turns."""
    return torch.cat(
        [torch.linspace(-12, 12, 99), torch.tensor([0.0, -0.0, -1e4, 1e4, -0.7518, 3])]
    )


def exact(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.double().requires_grad_()
    value = F.gelu(leaf, approximate="tanh")
    (slope,) = torch.autograd.grad(value, leaf, weights.double())
    return value.detach(), slope


@pytest.mark.parametrize("block", [1, 10, 1 << 18])
def test_value_and_gradient_are_torchs(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    x = given().view(7, 5, 3)
    weights = torch.linspace(-1, 2, x.numel()).view_as(x)
    leaf = x.clone().requires_grad_()
    value = host_gelu(leaf * 1)
    (slope,) = torch.autograd.grad(value, leaf, weights)
    expected, expected_slope = exact(x, weights)
    torch.testing.assert_close(value.double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(slope.double(), expected_slope, atol=2e-6, rtol=1e-6)


def test_without_a_gradient_the_value_is_the_same() -> None:
    expected, _ = exact(given(), torch.ones(len(given())))
    with torch.no_grad():
        value = host_gelu(given())
    torch.testing.assert_close(value.double(), expected, atol=1e-6, rtol=1e-6)


def test_one_that_needs_what_went_in_is_told() -> None:
    """The slope is where it was, and autograd knows."""
    leaf = given().requires_grad_()
    x = leaf * 1
    other = x.square()
    host_gelu(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        other.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("x", [given().bfloat16(), given().view(35, 3).t()], ids=["bf16", "turned"])
def test_other_tensors_go_torchs_way_and_stay(x: Tensor) -> None:
    before = x.clone()
    assert torch.equal(host_gelu(x), F.gelu(before, approximate="tanh"))
    assert torch.equal(x, before)
