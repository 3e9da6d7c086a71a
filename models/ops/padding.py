"""The vocabulary's padding rows, which make it divisible by the number of tensor ranks."""

from __future__ import annotations

from torch import Tensor


def mask_padding(logits: Tensor, vocab: int, tensor_rank: int) -> None:
    """Masks the vocabulary's padding in logits [..., vocabulary on this rank], in place."""
    on_rank = logits.shape[-1]
    real = vocab - tensor_rank * on_rank
    if real < on_rank:
        logits[..., max(real, 0) :] = float("-inf")
