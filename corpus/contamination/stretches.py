"""Splits long text into overlapping stretches that are searched one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from corpus.contamination.words import words

_SPACE = re.compile(r"\s")  # as str.isspace has it


def stretches(text: str, size: int, overlap: int) -> Iterator[tuple[int, str]]:
    """A text in stretches of about `size` characters, each with its offset.

    Each ends at white space and begins with the last `overlap` words of the previous one, so that
    every run of one more word is complete in one of them.
    """
    begin = stop = 0
    while space := _SPACE.search(text, stop + size):
        stop = space.end()
        yield begin, text[begin:stop]
        begin = _last_words(text, begin, stop, overlap)
    yield begin, text[begin:]


def _last_words(text: str, begin: int, stop: int, number: int) -> int:
    """The start of the last `number` words before `stop`; `begin` if there are fewer."""
    if not number:
        return stop
    width = 16 * number
    while stop - width > begin:
        low = stop - width
        found = words(text[low:stop])
        if len(found) > number:  # the first may be cut
            return low + found[-number].start
        width *= 2
    found = words(text[begin:stop])
    return begin + found[-number].start if len(found) >= number else begin
