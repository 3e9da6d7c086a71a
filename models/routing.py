"""Which experts a token is sent to, and with what weights: what training and inference share.

Shape suffixes: N tokens, T tokens of a sequence, B sequences, E experts, K chosen ones of a token.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from configs.settings.network import MoeConfig, RouterScore


class Choice(NamedTuple):
    """The experts of each token.

    Attributes:
        weights: what the experts' outputs are multiplied by, in float32.
        experts: their numbers, the first choice first.
        scores: of all experts, which add up to 1: what the auxiliary loss looks at.
    """

    weights: Tensor
    experts: Tensor
    scores: Tensor


def choose(logits: Tensor, moe: MoeConfig, bias_E: Tensor | None = None) -> Choice:
    """Chooses `moe.top_k` experts by a router's logits, in float32.

    Args:
        bias_E: added to what experts are chosen by, not to their weights.
    """
    logits = logits.float()
    if moe.score is RouterScore.sigmoid:
        values = logits.sigmoid()
        scores = values / values.sum(-1, keepdim=True)
    else:
        scores = logits.softmax(-1)
        values = logits if moe.score is RouterScore.softmax_chosen else scores
    if bias_E is None:
        weights, experts = values.topk(moe.top_k, dim=-1)
    else:
        experts = (values.detach() + bias_E).topk(moe.top_k, dim=-1).indices
        weights = values.gather(-1, experts)
    if moe.score is RouterScore.softmax_chosen:
        weights = weights.softmax(-1)
    elif moe.renormalise and moe.top_k > 1:
        weights = weights / weights.sum(-1, keepdim=True)
    return Choice(weights * moe.scale, experts, scores)


def spread(values: Tensor, experts: Tensor, count: int) -> Tensor:
    """[..., K] at the experts' numbers [..., K] to [..., E]: 0 at all others."""
    return values.new_zeros(*values.shape[:-1], count).scatter(-1, experts, values)


def capacity_of(moe: MoeConfig, tokens: int) -> int:
    """Tokens of a sequence that an expert takes: its even share times `moe.capacity`."""
    assert moe.capacity is not None
    return math.ceil(moe.capacity * tokens * moe.top_k / moe.experts)


def within_capacity(weights_TBK: Tensor, experts_TBK: Tensor, moe: MoeConfig) -> Tensor:
    """[T, B, K]: whether each choice is among those that its expert takes of its sequence.

    An expert takes the tokens with the largest weights. T is all tokens of the sequences.
    """
    weights_TBE = spread(weights_TBK, experts_TBK, moe.experts)
    tokens = len(weights_TBE)
    taken = weights_TBE.topk(min(capacity_of(moe, tokens), tokens), dim=0).indices
    taken_TBE = torch.zeros_like(weights_TBE, dtype=torch.bool).scatter(0, taken, True)
    return taken_TBE.gather(-1, experts_TBK)
