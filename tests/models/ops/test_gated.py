"""Gated activations in blocks against torch's, and that only the input is kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from configs.settings.network import Mlp
from models.ops import gated as module
from models.ops.gated import gated

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
KINDS = [Mlp.swiglu, Mlp.geglu]


def given(dtype: torch.dtype, *, apart: bool = False) -> tuple[Tensor, Tensor]:
    """[5, 3, 2 * 8] and the gradient of the output; `apart`: between other numbers."""
    generator = torch.Generator().manual_seed(5)
    x = (3 * torch.randn(5, 3, 48, generator=generator)).to(dtype)[..., 16:32]
    grad = torch.randn(5, 3, 24, generator=generator)[..., 8:16].to(dtype)
    return (x, grad) if apart else (x.contiguous(), grad.contiguous())


def exact(x: Tensor, grad: Tensor, kind: Mlp) -> list[Tensor]:
    leaf = x.double().requires_grad_()
    gate, linear = leaf.chunk(2, -1)
    act = F.silu(gate) if kind is Mlp.swiglu else F.gelu(gate, approximate="tanh")
    value = act * linear
    return [value.detach(), *torch.autograd.grad(value, leaf, grad.double())]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("block", [1, 20, 1 << 18])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_are_torchs(
    kind: Mlp, dtype: torch.dtype, block: int, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    x, grad = given(dtype, apart=apart)
    leaf = (x.detach() if apart else x.clone()).requires_grad_()  # which may be overwritten
    value = gated(leaf, kind)
    ours = [value.detach(), *torch.autograd.grad(value, leaf, grad)]
    for got, true in zip(ours, exact(x, grad, kind), strict=True):
        assert got.dtype is dtype
        rounding = torch.finfo(dtype).eps * true.abs().max()
        assert (got.double() - true).abs().max() <= 4 * rounding


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_gradient_the_value_is_the_same(
    kind: Mlp, dtype: torch.dtype, mode: type
) -> None:
    x, _ = given(dtype)
    expected = gated(x, kind)
    with mode():
        assert torch.equal(gated(x, kind), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_input_is_kept(kind: Mlp) -> None:
    kept: list[Tensor] = []
    leaf = given(torch.float32)[0].requires_grad_()

    def keep(it: Tensor) -> Tensor:
        kept.append(it)
        return it

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda it: it):
        gated(leaf, kind)
    assert [each.data_ptr() for each in kept] == [leaf.data_ptr()]
