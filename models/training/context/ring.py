"""context_by=ring: keys and values go round from rank to rank while each computes with what it has.

Their gradients follow them in the backward pass, and come home with the last message (Liu et al.
2023, "Ring Attention"). No rank ever holds more than its own and one other's.
Shape suffixes: B samples, N heads on this rank, T tokens of this rank, H head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import P2POp, Work

from models.ops.attention.documents import documents_of
from models.ops.attention.pieces import Gradients, Piece, Sums, pieces_of
from models.training.context.split import Split


def attend_round(
    query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, split: Split, starts: Tensor | None
) -> Tensor:
    """[B, N, T, H], causal over the whole sequence; `starts` as `attend_within_documents`'s."""
    tokens, documents = query_BNTH.shape[2], documents_of(starts)
    own = split.slices(tokens)
    rounds = [
        pieces_of(
            own,
            split.slices(tokens, (split.rank - number) % split.ranks),
            documents,
            masked=not query_BNTH.is_cuda,
        )
        for number in range(split.ranks)
    ]
    out: Tensor = _Round.apply(query_BNTH, key_BNTH, value_BNTH, rounds, split)  # type: ignore[no-untyped-call]
    return out


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, rounds: list[list[Piece]], split: Split
    ) -> Tensor:
        own = torch.stack((key, value))
        sums, there = Sums(query), own
        for number, pieces in enumerate(rounds):
            last = number + 1 == len(rounds)
            following = None if last else _Passing(there, split)
            sums.add(there[0], there[1], pieces)
            if following is not None:
                there = following.arrived()
        out, logs = sums.result(query.dtype)
        ctx.save_for_backward(query, own, out, logs)
        ctx.rounds, ctx.split = rounds, split
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        query, own, out, logs = ctx.saved_tensors
        gradients, there = Gradients(grads[0], query, out, logs), own
        coming: _Passing | None = None
        for number, pieces in enumerate(ctx.rounds):
            last = number + 1 == len(ctx.rounds)
            following = None if last else _Passing(there, ctx.split)
            of_these = torch.zeros_like(there, dtype=logs.dtype)
            gradients.add(there[0], there[1], pieces, of_these[0], of_these[1])
            if coming is not None:
                of_these += coming.arrived()
            coming = _Passing(of_these, ctx.split)
            if following is not None:
                there = following.arrived()
        assert coming is not None
        keys, values = coming.arrived().to(own.dtype)
        return gradients.query.to(query.dtype), keys, values, None, None


class _Passing:
    """A tensor on its way to the next rank, while the previous one's is on its way here."""

    def __init__(self, tensor: Tensor, split: Split) -> None:
        self._received = torch.empty_like(tensor)
        self._sent = tensor  # must live until it is sent
        after, before = (split.rank + 1) % split.ranks, (split.rank - 1) % split.ranks
        send, receive = torch.distributed.isend, torch.distributed.irecv
        self._work: list[Work] = torch.distributed.batch_isend_irecv(
            [
                P2POp(send, self._sent, group=split.group, group_peer=after),
                P2POp(receive, self._received, group=split.group, group_peer=before),
            ]
        )

    def arrived(self) -> Tensor:
        """The previous rank's tensor, once both messages are done."""
        for work in self._work:
            work.wait()
        return self._received
