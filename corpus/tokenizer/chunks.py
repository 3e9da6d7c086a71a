"""Cuts long text where byte-level BPE never merges across."""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 1 << 16  # characters


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in order, at most `size` characters at a time.

    Cuts fall before white space that follows something else, if there is such a place, and then
    the tokens of the pieces together are the very tokens of the whole.
    """
    start = 0
    while len(text) - start > size:
        stop = _cut(text, start, start + size)
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def _cut(text: str, start: int, stop: int) -> int:
    for at in range(stop, start, -1):
        if text[at] in " \n" and not text[at - 1].isspace():
            return at
    return stop
