"""How this rank's tokens lie in the sequence, and the collectives that ways of attention share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from torch import Tensor

from models.context_slices import token_slices


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """This rank's place in its context group.

    Attributes:
        group: the ranks between which the sequence is split, in the order of their slices.
    """

    group: Any
    rank: int
    ranks: int

    @classmethod
    def here(cls) -> Split:
        """That of Megatron-core's context group, which must exist."""
        group = parallel_state.get_context_parallel_group()
        return cls(group, group.rank(), group.size())

    def slices(self, own_tokens: int, rank: int | None = None) -> tuple[range, ...]:
        """The positions of a rank's tokens, of this one's by default, as memory has them."""
        at = self.rank if rank is None else rank
        return token_slices(at, self.ranks, own_tokens * self.ranks)

    def positions(self, own_tokens: int, device: torch.device) -> Tensor:
        """[T] of this rank's tokens."""
        return torch.cat(
            [torch.arange(each.start, each.stop, device=device) for each in self.slices(own_tokens)]
        )

    def own(self, whole: Tensor, dim: int) -> Tensor:
        """This rank's tokens of a tensor with those of the sequence along `dim`."""
        slices = self.slices(whole.shape[dim] // self.ranks)
        parts = [whole.narrow(dim, each.start, len(each)) for each in slices]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def in_sequence(gathered: Tensor, dim: int) -> Tensor:
    """Tokens of all ranks [C, ..., T / C, ...] along `dim` to [..., T, ...], in order."""
    early, late = torch.unflatten(gathered, dim, (2, -1)).unbind(dim)
    ordered = torch.cat([early, late.flip(0)])  # the late slices come last rank first
    return ordered.movedim(0, dim - 1).flatten(dim - 1, dim)


def by_rank(whole: Tensor, dim: int, ranks: int) -> Tensor:
    """The inverse of `in_sequence`, in memory of its own."""
    slices = torch.unflatten(whole, dim, (2 * ranks, -1)).movedim(dim, 0)
    both = torch.stack([slices[:ranks], slices[ranks:].flip(0)], dim + 1)
    return both.flatten(dim + 1, dim + 2).contiguous()


def all_gather(own: Tensor, group: Any) -> Tensor:
    """[...] of each rank to [C, ...] on all."""
    gathered = own.new_empty(group.size(), *own.shape)
    torch.distributed.all_gather_into_tensor(gathered.flatten(0, 1), own.contiguous(), group=group)
    return gathered


def reduce_scatter(parts: Tensor, group: Any) -> Tensor:
    """The sum over ranks of what each has for this one: [C, ...] to [...]."""
    own = torch.empty_like(parts[0])
    torch.distributed.reduce_scatter_tensor(own, parts.contiguous().flatten(0, 1), group=group)
    return own


class AllToAll(torch.autograd.Function):
    """Rows to other ranks and from them, along the first dimension; the gradient goes back."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, received: list[int] | None, sent: list[int] | None, group: Any
    ) -> Tensor:
        """`received` and `sent` count rows by rank; None: equally many of each."""
        ctx.received, ctx.sent, ctx.group = received, sent, group
        return _all_to_all(rows, received, sent, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """The other way round."""
        return _all_to_all(grads[0], ctx.sent, ctx.received, ctx.group), None, None, None


def _all_to_all(
    rows: Tensor, received: list[int] | None, sent: list[int] | None, group: Any
) -> Tensor:
    count = len(rows) if received is None else sum(received)
    out = rows.new_empty(count, *rows.shape[1:])
    torch.distributed.all_to_all_single(out, rows.contiguous(), received, sent, group=group)
    return out
