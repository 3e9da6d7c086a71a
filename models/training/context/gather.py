"""context_by=gather: every rank gathers all keys and values, and their gradients are scattered.

Only a rank's own are kept for the backward pass, which gathers them again.
Shape suffixes: B samples, N heads on this rank, T tokens of this rank, H head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.ops.attention.documents import documents_of
from models.ops.attention.pieces import Gradients, Piece, Sums, pieces_of
from models.training.context.split import Split, all_gather, by_rank, in_sequence, reduce_scatter


def attend_gathered(
    query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, split: Split, starts: Tensor | None
) -> Tensor:
    """[B, N, T, H], causal over the whole sequence; `starts` as `attend_within_documents`'s."""
    tokens = query_BNTH.shape[2]
    whole = [range(tokens * split.ranks)]
    pieces = pieces_of(
        split.slices(tokens), whole, documents_of(starts), masked=not query_BNTH.is_cuda
    )
    out: Tensor = _Gathered.apply(query_BNTH, key_BNTH, value_BNTH, pieces, split)  # type: ignore[no-untyped-call]
    return out


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, pieces: list[Piece], split: Split
    ) -> Tensor:
        both = torch.stack((key, value))
        sums = Sums(query)
        keys, values = _whole(both, split)
        sums.add(keys, values, pieces)
        out, logs = sums.result(query.dtype)
        ctx.save_for_backward(query, both, out, logs)
        ctx.pieces, ctx.split = pieces, split
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        query, both, out, logs = ctx.saved_tensors
        keys, values = whole = _whole(both, ctx.split)
        gradients = Gradients(grads[0], query, out, logs)
        of_whole = torch.zeros_like(whole, dtype=logs.dtype)
        gradients.add(keys, values, ctx.pieces, of_whole[0], of_whole[1])
        parts = by_rank(of_whole.to(both.dtype), 3, ctx.split.ranks)
        keys, values = reduce_scatter(parts, ctx.split.group)
        return gradients.query.to(query.dtype), keys, values, None, None


def _whole(both: Tensor, split: Split) -> Tensor:
    """Keys and values [2, B, N, T of the sequence, H], in order."""
    return in_sequence(all_gather(both, split.group), 4)
