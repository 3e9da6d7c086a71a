"""Blocks of rows that fit into a CPU's cache."""

from __future__ import annotations


def row_blocks(rows: int, width: int, elements: int) -> list[slice]:
    """All rows in order, in blocks of at most so many elements, or of a row."""
    at_once = max(1, elements // width)
    return [slice(first, first + at_once) for first in range(0, rows, at_once)]
