"""All-reduces of small tensors between two gloo ranks in a single exchange.

Gloo halves a tensor, sums the halves on different ranks and sends the sums back: two sequential
messages. For tensor parallelism's activations it takes half the time if each rank sends its entire
tensor at once and adds what it receives. Both ranks get the same bits, as a + b is b + a. Latency
dominates small messages on separate machines; above `LARGEST` bandwidth does.
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
"""Maximum bytes of a tensor that is exchanged."""
_TAG = 0x70616972  # used by no other message between the two
_COMBINE: list[tuple[Any, Callable[..., Tensor]]] = [
    (ReduceOp.SUM, torch.add),
    (ReduceOp.MAX, torch.maximum),
]
_under_way: dict[int, str] = {}  # torch's flight recorder does not see gloo's messages
_numbers = count(1)


@cache
def install() -> None:
    """Wraps gloo's all-reduce in all of torch.distributed; safe to repeat."""
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
    """Descriptions of this rank's unfinished exchanges, oldest first."""
    return list(_under_way.values())


def _combine(
    group: ProcessGroup, tensors: Any, options: tuple[Any, ...]
) -> Callable[..., Tensor] | None:
    """The function that combines two tensors; None if gloo must do it."""
    if group.size() != 2 or group.name() != "gloo" or len(options) != 1:
        return None
    if not isinstance(tensors, list) or len(tensors) != 1 or not tensors[0].is_contiguous():
        return None
    if tensors[0].numel() * tensors[0].element_size() > LARGEST:
        return None
    return next((combine for op, combine in _COMBINE if options[0].reduceOp == op), None)


class _Exchange:
    """The work handle that torch.distributed's callers wait on."""

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
