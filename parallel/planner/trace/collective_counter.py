"""Counts the collectives of this rank, in a real step or a traced one.

All of torch.distributed, and what Megatron-core and DeepSpeed build on it, ends in methods of
ProcessGroup. They are wrapped while counting, so nothing else is slowed down, and collectives from
autograd's own threads are counted too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from parallel.layout import Layout
from parallel.planner.communication.groups import members
from parallel.planner.communication.traffic import CollectiveKind, Group, Traffic, totals
from parallel.runtime.process_groups import CHECKPOINTS

# The methods that torch.distributed calls, and which argument is the full tensor. Some appear under
# several names, as torch has renamed them.
METHODS = {
    "allreduce": (CollectiveKind.all_reduce, 0),
    "allreduce_coalesced": (CollectiveKind.all_reduce, 0),
    "reduce": (CollectiveKind.all_reduce, 0),
    "broadcast": (CollectiveKind.broadcast, 0),
    "allgather": (CollectiveKind.all_gather, 0),
    "_allgather_base": (CollectiveKind.all_gather, 0),
    "all_gather_single": (CollectiveKind.all_gather, 0),
    "allgather_coalesced": (CollectiveKind.all_gather, 0),
    "allgather_into_tensor_coalesced": (CollectiveKind.all_gather, 0),
    "all_gather_single_coalesced": (CollectiveKind.all_gather, 0),
    "gather": (CollectiveKind.all_gather, 0),
    "reduce_scatter": (CollectiveKind.reduce_scatter, 1),
    "_reduce_scatter_base": (CollectiveKind.reduce_scatter, 1),
    "reduce_scatter_single": (CollectiveKind.reduce_scatter, 1),
    "reduce_scatter_tensor_coalesced": (CollectiveKind.reduce_scatter, 1),
    "reduce_scatter_single_coalesced": (CollectiveKind.reduce_scatter, 1),
    "scatter": (CollectiveKind.reduce_scatter, 1),
    "alltoall": (CollectiveKind.all_to_all, 1),
    "alltoall_base": (CollectiveKind.all_to_all, 1),
    "all_to_all_single": (CollectiveKind.all_to_all, 1),
    "send": (CollectiveKind.send, 0),
    "recv": (CollectiveKind.recv, 0),
    "barrier": (CollectiveKind.barrier, None),
}
_COALESCED = {name for name in METHODS if name.endswith("coalesced")}


class Counts:
    """The collectives counted so far on this rank of `layout`."""

    def __init__(self, layout: Layout, rank: int) -> None:
        self.rank = rank
        self._members = members(layout, rank)
        self._names: dict[tuple[tuple[int, ...], bool], Group] = {}
        self._ranks: dict[ProcessGroup, list[int]] = {}
        self._seen: list[Traffic] = []

    def traffic(self) -> list[Traffic]:
        """What was counted, summed by group and kind."""
        return totals(self._seen)

    def add(self, name: str, group: ProcessGroup, arguments: tuple[Any, ...]) -> None:
        """One call of the ProcessGroup method `name`."""
        if group.group_desc == CHECKPOINTS:
            return
        kind, whole = METHODS[name]
        if group not in self._ranks:
            self._ranks[group] = torch.distributed.get_process_group_ranks(group)
        ranks = self._ranks[group]
        if len(ranks) == 1:
            return
        between_two = kind in (CollectiveKind.send, CollectiveKind.recv)
        if between_two:
            ranks = [self.rank, ranks[arguments[1]]]
        tensors = [] if whole is None else list(_tensors(arguments[whole]))
        self._seen.append(
            Traffic(
                group=self._name(tuple(ranks), within=between_two),
                kind=kind,
                count=len(tensors) if name in _COALESCED else 1,
                bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
            )
        )

    def _name(self, ranks: tuple[int, ...], *, within: bool) -> Group:
        """The first group of exactly these ranks, or else the first that contains them all.

        Args:
            within: look for the latter; stages may send to each other outside any group.
        """
        key = (ranks, within)
        if key not in self._names:
            wanted = set(ranks)
            around = [group for group, members in self._members.items() if members >= wanted]
            exact = [group for group in around if self._members[group] == wanted and not within]
            self._names[key] = (exact or around)[0]
        return self._names[key]


@contextmanager
def counting(layout: Layout) -> Iterator[Counts]:
    """Counts this rank's collectives within the default process group, which `layout` describes."""
    counts = Counts(layout, torch.distributed.get_rank())
    with ExitStack() as undo:
        for name in METHODS:
            # The attribute as stored in the class; getattr's result would not bind again.
            plain = vars(ProcessGroup).get(name)
            if plain is not None:
                undo.callback(setattr, ProcessGroup, name, plain)
                setattr(ProcessGroup, name, _counted(name, getattr(ProcessGroup, name), counts))
        yield counts


def _counted(name: str, plain: Callable[..., Any], counts: Counts) -> Callable[..., Any]:
    @functools.wraps(plain)
    def call(group: ProcessGroup, *arguments: Any, **more: Any) -> Any:
        counts.add(name, group, arguments)
        return plain(group, *arguments, **more)

    return call


def _tensors(argument: Tensor | Iterable[Any]) -> Iterator[Tensor]:
    if isinstance(argument, Tensor):
        yield argument
    else:
        for each in argument:
            yield from _tensors(each)
