"""Cross-entropy over a vocabulary that is split over tensor ranks, in two passes over memory.

Megatron-core's takes six, each over all logits. Here rows are processed in blocks that fit into a
CPU's cache, each rank normalises by its own maximum, and the ranks communicate once, with two
numbers per token. The logits are overwritten: by the exponentials, and later by the gradient.

Shape suffixes: R rows (tokens of all samples), V vocabulary on this rank.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp

_LOG2_E = math.log2(math.e)
_BLOCK = 1 << 20  # numbers, 4 MiB of float32


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, first: int, group: ProcessGroup | None
    ) -> Tensor:
        logits_RV, labels_R = logits.detach().flatten(0, -2).float(), labels.flatten()
        here_R = (labels_R >= first) & (labels_R < first + logits_RV.shape[1])
        column_R = torch.where(here_R, labels_R - first, 0)
        label_R = logits_RV.gather(1, column_R[:, None])[:, 0].where(here_R, 0.0)
        greatest_R, total_R = _exponentials_(logits_RV)
        log_total_R = greatest_R + total_R.log()
        if group is not None:
            log_total_R = _over_ranks(log_total_R, label_R, group)
        ctx.save_for_backward(logits_RV, here_R, column_R, greatest_R - log_total_R)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        return (log_total_R - label_R).view(labels.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        exponentials_RV, here_R, column_R, log_scale_R = ctx.saved_tensors
        grad_R = grads[0].flatten()
        exponentials_RV *= (log_scale_R.exp() * grad_R)[:, None]
        exponentials_RV.scatter_add_(
            1, column_R[:, None], -grad_R.where(here_R, 0.0)[:, None].to(exponentials_RV.dtype)
        )
        return exponentials_RV.view(ctx.shape).to(ctx.dtype), None, None, None


def _exponentials_(logits_RV: Tensor) -> tuple[Tensor, Tensor]:
    """Replaces the logits by exp(logits - max); returns each row's max and sum [R]."""
    rows = max(1, _BLOCK // logits_RV.shape[1])
    greatest, total = [], []
    for block in logits_RV.split(rows):  # type: ignore[no-untyped-call]
        # A rank may hold only vocabulary padding, which is minus infinity.
        greatest.append(block.amax(1).clamp_(min=torch.finfo(block.dtype).min / 2))
        # Powers of two take half of exp's time on a CPU, and no longer where they underflow.
        torch.add(-_LOG2_E * greatest[-1][:, None], block, alpha=_LOG2_E, out=block)
        total.append(block.exp2_().sum(1))
    return torch.cat(greatest), torch.cat(total)


def _over_ranks(log_total_R: Tensor, label_R: Tensor, group: ProcessGroup) -> Tensor:
    """The logarithm of the sum over all ranks. Sums `label_R` over ranks in place."""
    greatest_R = log_total_R.clone()
    torch.distributed.all_reduce(greatest_R, ReduceOp.MAX, group=group)
    both_2R = torch.stack([(log_total_R - greatest_R).exp(), label_R])
    torch.distributed.all_reduce(both_2R, group=group)
    label_R.copy_(both_2R[1])
    return greatest_R + both_2R[0].log()


def cross_entropy(logits: Tensor, labels: Tensor, group: ProcessGroup) -> Tensor:
    """Losses of labels [...], from logits [..., V], which are overwritten; float32.

    Args:
        group: the tensor ranks, in the order of their vocabulary columns.
    """
    first = group.rank() * logits.shape[-1]
    shared = group if group.size() > 1 else None
    losses: Tensor = _CrossEntropy.apply(logits, labels, first, shared)  # type: ignore[no-untyped-call]
    return losses
