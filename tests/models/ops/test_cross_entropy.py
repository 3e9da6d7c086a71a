"""The loss over a split vocabulary against torch's over the whole one, in float64."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops import cross_entropy as module
from models.ops.cross_entropy import cross_entropy
from tests.pool import RankPool

VOCAB = 96


def given(dtype: torch.dtype, padded: int) -> tuple[Tensor, Tensor]:
    """Logits [T, B, VOCAB + padding] some of which are large, and labels."""
    generator = torch.Generator().manual_seed(3)
    logits = 30 * torch.randn(7, 3, VOCAB, generator=generator)
    labels = torch.randint(0, VOCAB, (7, 3), generator=generator)
    return F.pad(logits.to(dtype), (0, padded), value=-torch.inf), labels


def expected(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    whole = logits.double().requires_grad_()
    losses = F.cross_entropy(whole.flatten(0, 1), labels.flatten(), reduction="none")
    losses = losses.view(labels.shape)
    losses.backward(weights.double())  # type: ignore[no-untyped-call]
    assert whole.grad is not None
    return losses.detach(), whole.grad


def parts(world: int, dtype: torch.dtype, padded: int, block: int) -> Any:
    """A job: losses, and the gradient of this rank's columns."""
    logits, labels = given(dtype, padded)
    rank = torch.distributed.get_rank()
    own = logits.chunk(world, -1)[rank].contiguous().requires_grad_()
    weights = torch.linspace(-1, 1, labels.numel()).view(labels.shape)
    group = torch.distributed.group.WORLD
    with patch.object(module, "_BLOCK", block):
        losses = cross_entropy(own * 1, labels, group)  # type: ignore[arg-type]
    losses.backward(weights)  # type: ignore[no-untyped-call]
    return losses.detach(), own.grad


@pytest.mark.parametrize("block", [1, 300, 1 << 18])
@pytest.mark.parametrize(("world", "padded"), [(1, 0), (1, 32), (2, 0), (2, 160)])
def test_is_torchs_loss_and_gradient(ranks: RankPool, world: int, padded: int, block: int) -> None:
    # A padding of 160 leaves the second of two ranks nothing else.
    answers = ranks.run(world, parts, world, torch.float32, padded, block)
    logits, labels = given(torch.float32, padded)
    weights = torch.linspace(-1, 1, labels.numel()).view(labels.shape)
    losses, gradient = expected(logits, labels, weights)
    for own, _ in answers:
        torch.testing.assert_close(own.double(), losses, atol=1e-5, rtol=1e-6)
    whole = torch.cat([own for _, own in answers], -1)
    torch.testing.assert_close(whole.double(), gradient, atol=1e-6, rtol=1e-5)


def test_bf16_logits_give_a_float32_loss(ranks: RankPool) -> None:
    ((losses, gradient),) = ranks.run(1, parts, 1, torch.bfloat16, 0, 1 << 18)
    logits, labels = given(torch.bfloat16, 0)
    weights = torch.linspace(-1, 1, labels.numel()).view(labels.shape)
    exact, exact_gradient = expected(logits, labels, weights)
    assert losses.dtype is torch.float32
    assert gradient.dtype is torch.bfloat16
    torch.testing.assert_close(losses.double(), exact, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, atol=1e-3, rtol=1e-2)
