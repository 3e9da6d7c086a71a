"""Helpers for the wording of messages."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

MOST = 8
"""The number of list items that a message shows."""


def listed(items: Collection[object], most: int = MOST, apart: str = ", ") -> str:
    """The first few and how many more: "a, b, c and 297 more", "this is so; and 299 more"."""
    shown = [str(item) for item in islice(items, most)]
    more = len(items) - len(shown)
    if not more:
        return apart.join(shown)
    pause = {", ": " ", "\n  ": apart}.get(apart, f"{apart.rstrip()} ")
    return f"{apart.join(shown)}{pause}and {more:,} more"


def counted(count: int, one: str, several: str) -> str:
    """As "1 field" or "1,204 fields"."""
    return f"{count:,} {one if count == 1 else several}"
