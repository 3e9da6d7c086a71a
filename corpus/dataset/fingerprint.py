"""A fingerprint of the samples that a run has read, stored in every checkpoint.

It is the sum of the samples' ids modulo 2**64: each rank sums what it read, in any order, and a
sample read twice, missed or taken from elsewhere changes the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from corpus.dataset.mixture import Mixture

AT_ONCE = 1 << 20
MODULUS = 1 << 64


class SampleFingerprint:
    """Sums the ids of the samples that this rank has read."""

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture
        self.sum = 0

    def note(self, numbers: Sequence[int]) -> None:
        """Adds the ids of the samples with these numbers in the mixture's order."""
        ids = self._mixture.ids(np.array(numbers, dtype=np.int64))
        self.sum = (self.sum + int(ids.sum(dtype=np.uint64))) % MODULUS


def fingerprint(mixture: Mixture, first: int, stop: int) -> int:
    """The fingerprint of samples `first` to `stop` - 1, from the definition of the order."""
    total = 0
    for begin in range(first, stop, AT_ONCE):
        ids = mixture.ids(np.arange(begin, min(begin + AT_ONCE, stop), dtype=np.int64))
        total += int(ids.sum(dtype=np.uint64))
    return total % MODULUS
