"""Which tokens of a sequence each rank has, where context parallelism splits it. Imports no torch.

The sequence is cut into two slices a rank, and a rank has one from either end: in causal attention
late tokens see more than early ones, and so every rank has as much to compute (Brandon et al. 2023,
"Striped Attention", and Megatron-core's context parallelism, which cuts in the same way).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


@cache
def token_slices(rank: int, ranks: int, tokens: int) -> tuple[range, ...]:
    """The positions in a sequence of `tokens` that a rank has, in the order of its memory."""
    if ranks == 1:
        return (range(tokens),)
    each = tokens // (2 * ranks)
    return tuple(range(at * each, (at + 1) * each) for at in (rank, 2 * ranks - 1 - rank))


class HaloPart(NamedTuple):
    """Tokens before a slice, in the window of its first queries, on the rank that has them."""

    source: int  # the rank that has them
    target: int  # the rank that needs them
    slot: int  # which of its slices needs them
    tokens: range


@cache
def halo(ranks: int, tokens: int, window: int) -> tuple[HaloPart, ...]:
    """All parts, by target, slot and position; from several slices where the window is longer."""
    each = tokens // (2 * ranks)
    parts = []
    for target in range(ranks):
        for slot, own in enumerate(token_slices(target, ranks, tokens)):
            first = max(0, own.start - (window - 1))
            for at in range(first // each, own.start // each):
                needed = range(max(first, at * each), (at + 1) * each)
                source = at if at < ranks else 2 * ranks - 1 - at
                parts.append(HaloPart(source, target, slot, needed))
    return tuple(parts)
