"""Samples by global number from several sources, in proportion to their shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from corpus.dataset.megatron_import import quiet_import
from corpus.dataset.samples import Samples
from corpus.dataset.shuffle import source_seed
from corpus.store.prepared import Prepared

with quiet_import():
    from megatron.core.datasets import helpers

BLOCK = 1 << 20
"""The period, in samples, of the pattern of sources: at any point each source is within two
samples of its share."""

Ints = npt.NDArray[np.int64]


def blend(shares: list[float], size: int) -> tuple[Ints, Ints]:
    """For each of `size` samples, its source and its number within that source.

    The rule of Megatron-core's BlendedDataset: the next sample comes from the source that is
    furthest behind its share.
    """
    source, index = np.zeros(size, np.int16), np.zeros(size, np.int64)
    helpers.build_blending_indices(source, index, shares, len(shares), size, False)
    return source.astype(np.int64), index


def counts(shares: Sequence[float], samples: int) -> list[int]:
    """How many of the first `samples` come from each source; none from sources of share 0."""
    read = [number for number, share in enumerate(shares) if share > 0]
    blocks, rest = divmod(samples, BLOCK)
    source, _ = blend([shares[number] for number in read], BLOCK if blocks else rest)
    found = np.zeros(len(shares), np.int64)
    found[read] = blocks * np.bincount(source, minlength=len(read))
    found[read] += np.bincount(source[:rest], minlength=len(read))
    return [int(count) for count in found]


class Mixture:
    """An endless sequence that depends only on the tokens, the shares and the seed."""

    def __init__(
        self,
        prepared: Prepared,
        part: str,
        shares: Mapping[str, float],
        *,
        context: int,
        seed: int,
        vocab: int | None = None,
    ) -> None:
        """`part` is train or validation; shares sum to 1, and sources of share 0 are not read.

        `vocab` is as in Samples. Raises InputError if a token file is incomplete or holds less
        than one sample.
        """
        self.names = [source.name for source in prepared.sources if shares[source.name] > 0]
        self.sources = [
            Samples(
                prepared.tokens(name, part),
                context=context,
                seed=source_seed(seed, name),
                vocab=vocab,
            )
            for name in self.names
        ]
        self._source, self._index = blend([shares[name] for name in self.names], BLOCK)
        self._a_block = np.bincount(self._source, minlength=len(self.names))

    def __getitem__(self, number: int) -> npt.NDArray[np.int64]:
        """Global sample `number` >= 0: shape (context + 1,)."""
        if number < 0:
            raise IndexError(f"samples are numbered from 0, not {number}")
        source, index = self.places(np.array([number]))
        return self.sources[int(source[0])][int(index[0])]

    def starts(self, number: int) -> npt.NDArray[np.int32]:
        """Where documents begin in global sample `number`: shape (context,), see `Epoch.starts`."""
        source, index = self.places(np.array([number]))
        return self.sources[int(source[0])].starts(int(index[0]))

    def places(self, numbers: Ints) -> tuple[Ints, Ints]:
        """The source of each of these samples and its number within that source."""
        block, within = np.divmod(numbers, BLOCK)
        source = self._source[within]
        return source, block * self._a_block[source] + self._index[within]

    def ids(self, numbers: Ints) -> npt.NDArray[np.uint64]:
        """A 64-bit id for each sample, from its number and its position in the text."""
        source, index = self.places(numbers)
        document, offset = np.zeros_like(numbers), np.zeros_like(numbers)
        for each, samples in enumerate(self.sources):
            mine = source == each
            document[mine], offset[mine] = samples.positions(index[mine])
        mixed = numbers.astype(np.uint64)
        for part in (source, document, offset):
            mixed = _scrambled(mixed + part.astype(np.uint64))
        return mixed


def _scrambled(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64 (Steele, Lea and Flood 2014): changing any bit changes about half of them."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
