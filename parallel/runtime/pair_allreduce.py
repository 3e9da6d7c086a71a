"""All-reduces between two gloo ranks in one exchange, where the tensor is small.

Gloo halves a tensor, sums the halves on different ranks and sends the sums back: two messages that
follow one another. Activations of tensor parallelism take half of that time where each rank sends
the whole of its tensor at once and adds what it gets. Both ranks get the same bits, as a + b is
b + a. On a machine of its own each message takes a while; above `LARGEST` bandwidth decides.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp

LARGEST = 1 << 20
"""Bytes of a tensor that is exchanged."""
_TAG = 0x70616972  # of no other message between the two
_COMBINE: list[tuple[Any, Callable[..., Tensor]]] = [
    (ReduceOp.SUM, torch.add),
    (ReduceOp.MAX, torch.maximum),
]
_under_way: dict[int, str] = {}  # torch's flight recorder does not know of gloo's messages
_numbers = count(1)


@cache
def install() -> None:
    """Puts itself before gloo's all-reduce, in all of torch.distributed; safe to repeat."""
    plain, send, receive = ProcessGroup.allreduce, ProcessGroup.send, ProcessGroup.recv

    def allreduce(group: ProcessGroup, tensors: Any, *options: Any, **more: Any) -> Any:
        combine = _combine(group, tensors, options)
        if combine is None:
            return plain(group, tensors, *options, **more)
        (own,) = tensors
        other, peer = torch.empty_like(own), 1 - group.rank()
        parts = (send(group, [own], peer, _TAG), receive(group, [other], peer, _TAG))
        return _Exchange(group, own, other, combine, parts)

    ProcessGroup.allreduce = allreduce  # type: ignore[method-assign, assignment]


def under_way() -> list[str]:
    """Of this rank's exchanges those that are not done, in words, oldest first."""
    return list(_under_way.values())


def _combine(
    group: ProcessGroup, tensors: Any, options: tuple[Any, ...]
) -> Callable[..., Tensor] | None:
    """What puts two tensors together; None: it is gloo's."""
    if group.size() != 2 or group.name() != "gloo" or len(options) != 1:
        return None
    if not isinstance(tensors, list) or len(tensors) != 1 or not tensors[0].is_contiguous():
        return None
    if tensors[0].numel() * tensors[0].element_size() > LARGEST:
        return None
    return next((combine for op, combine in _COMBINE if options[0].reduceOp == op), None)


class _Exchange:
    """What torch.distributed's callers wait for."""

    def __init__(
        self,
        group: ProcessGroup,
        own: Tensor,
        other: Tensor,
        combine: Callable[..., Tensor],
        parts: tuple[Any, ...],
    ) -> None:
        self._own, self._other, self._combine, self._parts = own, other, combine, parts
        self._number = number = next(_numbers)
        _under_way[number] = f"gloo:all_reduce of {group.group_desc.lower()} (exchange {number})"

    def wait(self, timeout: timedelta | None = None) -> bool:
        given = () if timeout is None else (timeout,)
        for part in self._parts:
            part.wait(*given)
        if self._parts:
            self._combine(self._own, self._other, out=self._own)
            self._parts = ()
            _under_way.pop(self._number, None)
        return True
