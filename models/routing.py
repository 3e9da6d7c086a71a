"""Which experts a token is sent to, and with what weights: what training and inference share.

Shape suffixes: N tokens, E experts, K chosen experts of a token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from configs.network import MoeConfig, RouterScore


class Choice(NamedTuple):
    """The experts of each token.

    Attributes:
        weights_NK: what the experts' outputs are multiplied by, in float32.
        experts_NK: their numbers, the first choice first.
        scores_NE: of all experts, which add up to 1: what the auxiliary loss looks at.
    """

    weights_NK: Tensor
    experts_NK: Tensor
    scores_NE: Tensor


def choose(logits_NE: Tensor, moe: MoeConfig, bias_E: Tensor | None = None) -> Choice:
    """Chooses `moe.top_k` experts by a router's logits, in float32.

    Args:
        bias_E: added to what experts are chosen by, not to their weights.
    """
    logits_NE = logits_NE.float()
    if moe.score is RouterScore.sigmoid:
        values_NE = logits_NE.sigmoid()
        scores_NE = values_NE / values_NE.sum(-1, keepdim=True)
    else:
        scores_NE = logits_NE.softmax(-1)
        values_NE = logits_NE if moe.score is RouterScore.softmax_chosen else scores_NE
    if bias_E is None:
        weights_NK, experts_NK = values_NE.topk(moe.top_k, dim=-1)
    else:
        experts_NK = (values_NE.detach() + bias_E).topk(moe.top_k, dim=-1).indices
        weights_NK = values_NE.gather(-1, experts_NK)
    if moe.score is RouterScore.softmax_chosen:
        weights_NK = weights_NK.softmax(-1)
    elif moe.renormalise and moe.top_k > 1:
        weights_NK = weights_NK / weights_NK.sum(-1, keepdim=True)
    return Choice(weights_NK * moe.scale, experts_NK, scores_NE)


def spread(values_NK: Tensor, experts_NK: Tensor, experts: int) -> Tensor:
    """[N, E]: each value at its expert, 0 at all others."""
    return values_NK.new_zeros(len(values_NK), experts).scatter(-1, experts_NK, values_NK)


def within_capacity(weights_NK: Tensor, experts_NK: Tensor, experts: int, most: int) -> Tensor:
    """[N, K]: whether each choice is among the `most` of its expert with the largest weights.

    The tokens are those that share a capacity: one sequence's.
    """
    weights_NE = spread(weights_NK, experts_NK, experts)
    kept = min(most, len(weights_NE))
    of_expert = weights_NE.topk(kept, dim=0).indices
    taken_NE = torch.zeros_like(weights_NE, dtype=torch.bool).scatter(0, of_expert, True)
    return taken_NE.gather(-1, experts_NK)
