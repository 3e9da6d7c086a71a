"""RMSNorm in blocks against torch's, and the memory of a dry run against that of a fused kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from models.ops import rms_norm as module
from models.ops.rms_norm import rms_norm
from parallel.planner.trace.memory_tracker import Storages

EPSILON = 1e-3
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def given(dtype: torch.dtype, *, apart: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """[7, 2, 3, 16], its weight and the gradient of the output; `apart`: between other numbers."""
    generator = torch.Generator().manual_seed(3)
    x, grad = (torch.randn(7, 2, 3, 48, generator=generator) for _ in range(2))
    x, grad = (it[..., 16:32].to(dtype) for it in (x, grad))
    if not apart:
        x, grad = x.contiguous(), grad.contiguous()
    return x, (1 + torch.randn(16, generator=generator) / 4).to(dtype), grad


def exact(x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    norm = torch.nn.RMSNorm(16, eps=EPSILON, dtype=torch.float64)
    norm.weight.data = weight.double()
    leaf = x.double().requires_grad_()
    value = norm(leaf)
    return [value.detach(), *torch.autograd.grad(value, [leaf, norm.weight], grad.double())]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("block", [1, 100, 1 << 18])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_value_and_gradients_are_torchs(
    dtype: torch.dtype, block: int, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    x, weight, grad = given(dtype, apart=apart)
    leaves = [x.detach().requires_grad_(), weight.requires_grad_()]
    value = rms_norm(leaves[0], leaves[1], EPSILON, on_cpu=True)
    ours = [value.detach(), *torch.autograd.grad(value, leaves, grad)]
    for got, true in zip(ours, exact(x, weight.detach(), grad), strict=True):
        assert got.dtype is dtype
        rounding = torch.finfo(dtype).eps * true.abs().max()
        assert (got.double() - true).abs().max() <= 2 * rounding


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_a_gradient_the_value_is_the_same(dtype: torch.dtype, mode: type) -> None:
    x, weight, _ = given(dtype)
    expected = rms_norm(x, weight, EPSILON, on_cpu=True)
    with mode():
        assert torch.equal(rms_norm(x, weight, EPSILON, on_cpu=True), expected)


def test_on_cuda_it_is_torchs_own() -> None:
    x, weight, _ = given(torch.float32)
    torch.testing.assert_close(
        rms_norm(x, weight, EPSILON, on_cpu=False), rms_norm(x, weight, EPSILON, on_cpu=True)
    )


@pytest.mark.parametrize("grad", [False, True])
def test_a_dry_run_allocates_what_a_fused_kernel_does(grad: bool) -> None:
    rows, width = 128, 1024
    with FakeTensorMode():
        x = torch.empty(rows, width, dtype=torch.bfloat16, requires_grad=True)
        weight = torch.ones(width, dtype=torch.bfloat16, requires_grad=True)
        with Storages() as storages, torch.set_grad_enabled(grad):
            normed = rms_norm(x, weight, EPSILON, on_cpu=False)
            assert storages.peak_bytes == 2 * rows * width + 4 * rows  # the scales are float32
            if grad:
                found = torch.autograd.grad(normed, [x, weight], torch.empty_like(normed))
                assert [each.shape for each in found] == [x.shape, weight.shape]
