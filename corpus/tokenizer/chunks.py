"""Splits long text where byte-level BPE never merges."""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 1 << 16  # characters


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in order, at most `size` characters at a time.

    Splits fall before a space that follows another character, or a new line that follows a letter
    or a digit, if there is such a place; the tokens of the pieces are then exactly those of the
    full text. (Llama 3 and Qwen join new lines to a mark before them.)
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
        before = text[at - 1]
        if (text[at] == " " and not before.isspace()) or (text[at] == "\n" and before.isalnum()):
            return at
    return stop
