"""Which samples a run has read: a fingerprint that every checkpoint carries.

It is the sum of the ids of the samples, modulo 2**64: ranks add up what each of them read, in any
order, and a sample read twice, missed or taken from elsewhere changes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from corpus.dataset.mixture import Mixture

AT_ONCE = 1 << 20
MODULUS = 1 << 64


class SampleFingerprint:
    """The ids that this rank has read."""

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture
        self.sum = 0

    def note(self, numbers: Sequence[int]) -> None:
        """Adds the ids of the samples with these numbers in the mixture's order."""
        ids = self._mixture.ids(np.array(numbers, dtype=np.int64))
        self.sum = (self.sum + int(ids.sum(dtype=np.uint64))) % MODULUS


def fingerprint(mixture: Mixture, first: int, stop: int) -> int:
    """That of the samples `first` to `stop` - 1, by the definition of the order."""
    total = 0
    for begin in range(first, stop, AT_ONCE):
        ids = mixture.ids(np.arange(begin, min(begin + AT_ONCE, stop), dtype=np.int64))
        total += int(ids.sum(dtype=np.uint64))
    return total % MODULUS
