"""Collects the errors of several sources into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from configs.errors import InputError
from configs.words import listed

Thing = TypeVar("Thing")
Made = TypeVar("Made")


def of_each(do: Callable[[Thing], Made], things: Iterable[Thing]) -> list[Made]:
    """Applies `do` to each. Raises one InputError with the messages of all that failed."""
    made, faults = [], []
    for thing in things:
        try:
            made.append(do(thing))
        except InputError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InputError(listed(faults, apart="\n  "))
    return made
