"""Grams of one length by their hashes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.contamination.hashing import Hashes, Numbers

SLOTS = 32  # minimum bits of the bitmap per gram
FEWEST_SLOTS = 16  # as a power of two


@dataclass(frozen=True, eq=False)
class NgramIndex:
    """The grams of one length, sorted by hash, with a Bloom filter that avoids most searches.

    Two bits of `bitmap` are set for each gram. Text hashes are tested for the first bit all at
    once, and the remaining ones for the second; a search costs a hundred times as much as either.
    """

    length: int  # words
    hashes: Hashes
    grams: NDArray[np.int32]  # the gram with each hash
    bitmap: NDArray[np.uint8]

    @classmethod
    def of(cls, length: int, hashes: Hashes, grams: NDArray[np.int32]) -> NgramIndex:
        """Sorts by hash and sets the bitmap; `hashes` and `grams` are parallel, in any order."""
        order = np.argsort(hashes, kind="stable")
        power = max(FEWEST_SLOTS, (len(hashes) * SLOTS - 1).bit_length())
        bitmap = np.zeros(1 << (power - 3), np.uint8)
        for slots in (_first(hashes, power), _second(hashes, power)):
            np.bitwise_or.at(bitmap, slots >> 3, _bit(slots))
        return cls(length, hashes[order], grams[order], bitmap)

    def search(self, hashes: Hashes) -> tuple[Numbers, NDArray[np.int32]]:
        """Pairs of an index in `hashes` and a gram with this hash."""
        power = self.bitmap.size.bit_length() + 2
        slots = _first(hashes, power)
        found = np.flatnonzero(self.bitmap[slots >> 3] & _bit(slots) != 0)
        slots = _second(hashes[found], power)
        found = found[self.bitmap[slots >> 3] & _bit(slots) != 0]
        low = np.searchsorted(self.hashes, hashes[found], "left")
        high = np.searchsorted(self.hashes, hashes[found], "right")
        counts = high - low  # hardly ever more than 1
        begins = np.repeat(low - (np.cumsum(counts) - counts), counts)
        return np.repeat(found, counts), self.grams[begins + np.arange(counts.sum())]


def _first(hashes: Hashes, power: int) -> Numbers:
    return (hashes >> np.uint64(64 - power)).view(np.int64)


def _second(hashes: Hashes, power: int) -> Numbers:
    return _first(hashes << np.uint64(32), min(power, 32))


def _bit(slots: Numbers) -> NDArray[np.uint8]:
    return np.uint8(1) << (slots.astype(np.uint8) & np.uint8(7))
