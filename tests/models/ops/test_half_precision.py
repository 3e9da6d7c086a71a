"""Half precision on a CPU without instructions for it: as near to the truth, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops import half_precision
from models.ops.half_precision import upcast_if_unsupported
from models.ops.linear import host_linear
from models.shape import ModelShape
from models.training.attention import BandedAttention, DenseAttention
from tests.training import network_config

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(params=[False, True], ids=["no instructions", "instructions"])
def _instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "_computes_in", lambda _dtype: request.param)


def test_what_a_cpu_cannot_do_is_done_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "_computes_in", lambda dtype: dtype is torch.bfloat16)
    assert upcast_if_unsupported(torch.ones(1, dtype=torch.float16)).dtype is torch.float32
    for dtype in (torch.bfloat16, torch.float32, torch.float64, torch.int64):
        x = torch.ones(1, dtype=dtype)
        assert upcast_if_unsupported(x) is x


def assert_near(results: list[list[Tensor]], dtype: torch.dtype, worst: float) -> None:
    """Of ours against the truth: how often the rounding of the largest number."""
    for ours, true in zip(*results, strict=True):
        assert ours.dtype is dtype
        error = (ours.double() - true).abs().max()
        assert error <= worst * torch.finfo(dtype).eps * true.abs().max()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.usefixtures("_instructions")
def test_a_linear(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight, bias, out = (torch.randn(size) for size in ((3, 5, 32), (16, 32), (16,), (3, 5, 16)))
    results: list[list[Tensor]] = []
    for to in (dtype, torch.float64):
        leaves = [it.to(dtype).to(to).requires_grad_() for it in (x, weight, bias)]
        if to is dtype:
            value = host_linear(
                leaves[0], leaves[1], bias=leaves[2], allreduce_dgrad=False, tp_group=None
            )
        else:
            value = F.linear(*leaves)
        grads = torch.autograd.grad(value, leaves, out.to(dtype).to(to))
        results.append([value.detach(), *grads])
    assert_near(results, dtype, worst=1)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_sum_over_micro_batches_in_float32_takes_products_in_float32(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_precision, "_computes_in", lambda _dtype: False)
    torch.manual_seed(0)
    x, out = torch.randn(64, 8).to(dtype), torch.randn(64, 4).to(dtype)
    weight: Any = torch.randn(4, 8).to(dtype).requires_grad_()
    weight.main_grad = torch.full((4, 8), 100.0)
    value = host_linear(x, weight, bias=None, allreduce_dgrad=False, tp_group=None)
    value.backward(out)  # type: ignore[no-untyped-call]
    assert weight.grad is None
    torch.testing.assert_close(
        weight.main_grad - 100, out.float().t() @ x.float(), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("banded", [False, True])
@pytest.mark.usefixtures("_instructions")
def test_attention(dtype: torch.dtype, banded: bool) -> None:
    shape = ModelShape(layers=1, hidden=48, heads=3, context=200, vocab=9, window=70)
    layer = (BandedAttention if banded else DenseAttention)(network_config(shape), 1, shape=shape)
    torch.manual_seed(0)
    given = [torch.randn(200, 2, 3, 16) for _ in range(3)]
    out = torch.randn(200, 2, 48)
    results: list[list[Tensor]] = []
    for to in (dtype, torch.float64):
        leaves = [it.to(dtype).to(to).requires_grad_() for it in given]
        value = layer(*leaves)
        grads = torch.autograd.grad(value, leaves, out.to(dtype).to(to))
        results.append([value.detach(), *grads])
    assert_near(results, dtype, worst=4)
