"""Banded attention over a split sequence: each slice needs but the tokens in its first's window.

Shape suffixes: B samples, N heads on this rank, T tokens of this rank, S keys, H head width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from models.context_slices import HaloPart, halo
from models.ops.attention.banded import AttentionBackend, banded_attention
from models.ops.half_precision import upcast_if_unsupported
from models.training.context.split import AllToAll, Split


def attend_with_halo(
    query_BNTH: Tensor,
    key_BNTH: Tensor,
    value_BNTH: Tensor,
    window: int,
    backend: AttentionBackend,
    split: Split,
    starts_BT: Tensor | None,
) -> Tensor:
    """[B, N, T, H], over the last `window` tokens; `starts` as `attend_within_documents`'s."""
    tokens = query_BNTH.shape[2]
    own = split.slices(tokens)
    both_T2BNH = torch.stack((key_BNTH, value_BNTH)).permute(3, 0, 1, 2, 4)
    early = _early(both_T2BNH, window, split)
    outs, at = [], 0
    for positions, before in zip(own, early, strict=True):
        rows = slice(at, at + len(positions))
        at = rows.stop
        there = torch.cat([*before, both_T2BNH[rows]]).permute(1, 2, 3, 0, 4)
        first = positions.stop - there.shape[3]  # the position of the first key
        firsts = None
        if starts_BT is not None:
            firsts = starts_BT[:, positions.start : positions.stop] - first
        query, key, value = map(upcast_if_unsupported, (query_BNTH[:, :, rows], *there))
        outs.append(banded_attention(query, key, value, window, backend, firsts_BT=firsts))
    return torch.cat(outs, 2).to(query_BNTH.dtype)


def _early(both_TX: Tensor, window: int, split: Split) -> list[list[Tensor]]:
    """The rows in the window before each of this rank's slices, in order of position."""
    tokens = len(both_TX)
    parts = halo(split.ranks, tokens * split.ranks, window)
    sent = [part for part in parts if part.source == split.rank]  # already by target
    received = sorted(
        (part for part in parts if part.target == split.rank), key=lambda part: part.source
    )
    rows = [both_TX[_rows(part, split.slices(tokens))] for part in sent]
    arrived = cast(
        Tensor,
        AllToAll.apply(  # type: ignore[no-untyped-call]
            torch.cat(rows) if rows else both_TX[:0],
            _counts([(part.source, part) for part in received], split.ranks),
            _counts([(part.target, part) for part in sent], split.ranks),
            split.group,
        ),
    )
    found: list[list[tuple[int, Tensor]]] = [[] for _ in split.slices(tokens)]
    each = torch.split(arrived, [len(part.tokens) for part in received]) if received else ()
    for part, there in zip(received, each, strict=True):
        found[part.slot].append((part.tokens.start, there))
    return [[there for _, there in sorted(slot, key=lambda it: it[0])] for slot in found]


def _rows(part: HaloPart, slices: tuple[range, ...]) -> slice:
    at = 0
    for each in slices:
        if part.tokens.start in each:
            return slice(at + part.tokens.start - each.start, at + part.tokens.stop - each.start)
        at += len(each)
    raise AssertionError(f"{part} is of none of {slices}")


def _counts(parts: list[tuple[int, HaloPart]], ranks: int) -> list[int]:
    counts = [0] * ranks
    for rank, part in parts:
        counts[rank] += len(part.tokens)
    return counts
