"""Faults of several sources told in one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from configs.errors import InputError
from configs.words import listed

Thing = TypeVar("Thing")
Made = TypeVar("Made")


def of_each(do: Callable[[Thing], Made], things: Iterable[Thing]) -> list[Made]:
    """`do` of each. Raises one InputError with the faults of all that raised one."""
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
