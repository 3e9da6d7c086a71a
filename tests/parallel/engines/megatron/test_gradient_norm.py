"""The gradient norm of a GPU without fused kernels: right, and read back by nobody."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from parallel.engines.megatron import gradient_norm
from tests.pool import RankPool


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts values that the host reads; on CUDA it would wait for the device at each."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
    """Of a matrix, a bias, and a number, as large and as small as gradients get."""
    generator = torch.Generator().manual_seed(3)
    shapes: list[tuple[int, ...]] = [(64, 48), (48,), ()]
    return [
        torch.randn(shape, generator=generator).mul(scale).to(dtype)
        for shape, scale in zip(shapes, (1e-3, 10.0, 1e-6), strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_right_and_stays_on_the_device(dtype: torch.dtype) -> None:
    given = gradients(dtype)
    exact = torch.cat([each.double().flatten() for each in given]).norm()
    with Reads() as reads:
        norm, none = gradient_norm.l2_norm(0, None, [given], False)
    assert none is None
    assert reads.count == 0
    assert (norm.shape, norm.dtype) == ((1,), torch.float32)
    assert norm.item() == pytest.approx(exact.item(), rel=1e-6)


def installed() -> tuple[bool, bool]:
    """A job: whether ours took the place of Megatron-core's own, and of another."""
    from megatron.core import utils
    from megatron.core.optimizer import clip_grads

    before = clip_grads.l2_norm_impl
    try:
        clip_grads.l2_norm_impl = utils.local_multi_tensor_l2_norm
        gradient_norm.install()
        own = clip_grads.l2_norm_impl is gradient_norm.l2_norm
        clip_grads.l2_norm_impl = before
        gradient_norm.install()
        return own, clip_grads.l2_norm_impl is not before
    finally:
        clip_grads.l2_norm_impl = before


def test_only_megatrons_own_way_is_replaced(ranks: RankPool) -> None:
    assert ranks.run(1, installed) == [(True, False)]
