"""Hashes of words and of runs of words, vectorised over arrays.

Hashes only preselect: every hit is verified by comparing words, so the hashes need to be fast and
well distributed, not secure. All arithmetic is modulo 2**64.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]
Numbers: TypeAlias = NDArray[np.int64]

MIX = 0x9E3779B97F4A7C15  # odd, with well-mixed bits (2**64 / golden ratio)
BASE = 0xD1342543DE82EF95  # odd, so that it has an inverse
_UNBASE = pow(BASE, -1, 1 << 64)
_SHIFTS = np.array([0, *range(56, -1, -8)], np.uint64)
"""By a word's length up to 8: the bits before it in the 8 bytes that it ends."""


class HashedWords(NamedTuple):
    """The words of a text in order, as hashes; both arrays have shape (words,)."""

    hashes: Hashes
    tokens: Numbers  # how many spaces come before each word


def hash_words(squeezed: bytes) -> HashedWords:
    """A hash for each word, of its length and its last 8 bytes.

    Words that differ only before these bytes collide; they are few and long.
    """
    buffer = b"\0" * 7 + b" " + squeezed + b" "  # so that 8 bytes can be read before every end
    spaces = np.flatnonzero(np.frombuffer(buffer, np.uint8) == 32)
    gaps = np.diff(spaces)
    tokens = np.flatnonzero(gaps > 1)  # two spaces in a row enclose no word
    lengths = gaps[tokens] - 1
    every_8 = np.ndarray((len(buffer) - 7,), np.uint64, buffer, strides=(1,))
    hashes = every_8[spaces[tokens + 1] - 8]
    hashes >>= _SHIFTS.take(lengths, mode="clip")
    hashes += lengths.view(np.uint64)
    hashes *= np.uint64(MIX)
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(MIX)
    return HashedWords(hashes, tokens)


class Rolling:
    """Hashes of all runs of words of any length: sums of word * BASE**place, from prefix sums."""

    def __init__(self, words: Hashes, powers: Powers) -> None:
        self._unbase = powers.unbase
        self._sums = np.zeros(len(words) + 1, np.uint64)
        np.cumsum(words * powers.base[: len(words)], out=self._sums[1:])

    def grams(self, length: int) -> Hashes:
        """Hashes of the runs beginning at each word but the last length - 1."""
        sums = self._sums[length:] - self._sums[:-length]
        sums *= self._unbase[: len(sums)]
        return sums


class Powers:
    """BASE and its inverse to the power of each place in a text of at most `words` words."""

    def __init__(self, words: int) -> None:
        self.base = np.multiply.accumulate(np.full(words, BASE, np.uint64))
        self.unbase = np.multiply.accumulate(np.full(words, _UNBASE, np.uint64))

    def __len__(self) -> int:
        return len(self.base)
