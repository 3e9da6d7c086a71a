"""Causal attention within documents: a token sees the earlier ones of its own document only.

Where documents begin is said by `starts`, [B, T] in host memory: for each token of each sample the
position of its document's first token, 0 for a document that began in an earlier sample.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from models.ops.attention.flex import flex_attention
from models.ops.attention.grouped import attend
from models.ops.attention.pieces import Gradients, Piece, Sums, pieces_of


def documents_of(starts_BT: Tensor | None) -> list[list[int]] | None:
    """For each sample the positions where documents begin; None for None."""
    if starts_BT is None:
        return None
    # A trace has no values: its documents are as long as they can be.
    if detect_fake_mode((starts_BT,)) is not None:
        return None
    return [row.unique_consecutive().tolist() for row in starts_BT]


def attend_within_documents(
    query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, starts_BT: Tensor
) -> Tensor:
    """[B, N, T, H], all tokens of a sequence; keys and values may have fewer heads."""
    documents = documents_of(starts_BT)
    if documents is None:
        return attend(query_BNTH, key_BNTH, value_BNTH, causal=True)
    if query_BNTH.is_cuda:
        return flex_attention(query_BNTH, key_BNTH, value_BNTH, None, firsts_BT=starts_BT)
    whole = [range(query_BNTH.shape[2])]
    pieces = pieces_of(whole, whole, documents, masked=True)
    out: Tensor = _Pieces.apply(query_BNTH, key_BNTH, value_BNTH, pieces)  # type: ignore[no-untyped-call]
    return out


class _Pieces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, pieces: list[Piece]) -> Tensor:
        sums = Sums(query)
        sums.add(key, value, pieces)
        out, logs = sums.result(query.dtype)
        ctx.save_for_backward(query, key, value, out, logs)
        ctx.pieces = pieces
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        query, key, value, out, logs = ctx.saved_tensors
        gradients = Gradients(grads[0], query, out, logs)
        keys, values = (torch.zeros_like(it, dtype=logs.dtype) for it in (key, value))
        gradients.add(key, value, ctx.pieces, keys, values)
        return *(it.to(query.dtype) for it in (gradients.query, keys, values)), None
