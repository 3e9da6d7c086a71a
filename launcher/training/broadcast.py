"""Runs an action on rank 0 and shares its outcome with every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from configs.errors import InputError, RunError

Result = TypeVar("Result")


def broadcast_from_rank0(action: Callable[[], Result]) -> Result:
    """Runs an action on rank 0; broadcasts the result or the exception. Collective.

    Raises InputError or RunError on all ranks if the action raised it.
    """
    answer: list[tuple[str, object]] = [("", None)]
    if torch.distributed.get_rank() == 0:
        try:
            answer = [("", action())]
        except (InputError, RunError) as error:
            answer = [(type(error).__name__, str(error))]
    torch.distributed.broadcast_object_list(answer, src=0)
    kind, value = answer[0]
    if kind:
        raise (InputError if kind == "InputError" else RunError)(value)
    return value  # type: ignore[return-value]
