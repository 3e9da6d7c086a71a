"""context_by=exchange: each rank gets all tokens of a share of the heads, and gives them back.

DeepSpeed-Ulysses (Jacobs et al. 2023). Attention is then that of one rank, with fewer heads.
Shape suffixes: B samples, N heads on this rank, T tokens of this rank, H head width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from models.ops.attention.documents import attend_within_documents
from models.ops.attention.grouped import attend
from models.ops.half_precision import upcast_if_unsupported
from models.training.context.split import AllToAll, Split, by_rank, in_sequence


def attend_exchanged(
    query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, split: Split, starts: Tensor | None
) -> Tensor:
    """[B, N, T, H], causal over the whole sequence; `starts` as `attend_within_documents`'s."""
    shares = [
        torch.unflatten(it, 1, (split.ranks, -1)) for it in (query_BNTH, key_BNTH, value_BNTH)
    ]
    counts = [it.shape[2] for it in shares]
    to_ranks = torch.cat(shares, 2).transpose(0, 1)
    whole = in_sequence(_exchanged(to_ranks, split), 3)
    query, key, value = (upcast_if_unsupported(it) for it in torch.split(whole, counts, 1))
    if starts is None:
        out = attend(query, key, value, causal=True)
    else:
        out = attend_within_documents(query, key, value, starts)
    back = _exchanged(by_rank(out.to(query_BNTH.dtype), 2, split.ranks), split)
    return back.transpose(0, 1).flatten(1, 2)


def _exchanged(by_ranks: Tensor, split: Split) -> Tensor:
    """[C, ...]: to each rank its part, from each rank this one's."""
    return cast(Tensor, AllToAll.apply(by_ranks, None, None, split.group))  # type: ignore[no-untyped-call]
