"""Fuzzy deduplication by MinHash and locality-sensitive hashing, as GPT-3's (appendix A).

The paper used Spark's MinHashLSH with 10 hashes and gives no threshold. Here a document is the set
of its shingles of `shingle` words, 128 hashes estimate how similar two of them are, and documents
that agree in one of 16 bands are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from configs.errors import InputError
from configs.settings.text import DuplicatesConfig

SEED = 1
Signatures = npt.NDArray[np.uint32]


def check(config: DuplicatesConfig) -> None:
    """Raises InputError if the bands do not divide the hashes."""
    if config.hashes % config.bands:
        nearest = max(n for n in range(1, config.bands) if config.hashes % n == 0)
        raise InputError(
            f"corpus.duplicates.bands={config.bands} does not divide "
            f"corpus.duplicates.hashes={config.hashes}; nearest: {nearest}"
        )


def signatures(texts: Sequence[str], config: DuplicatesConfig) -> Signatures:
    """The MinHash of each text, shape (texts, hashes)."""
    from rensa import RMinHash

    if not texts:
        return np.zeros((0, config.hashes), np.uint32)
    sets = [_shingles(text, config.shingle) for text in texts]
    matrix = RMinHash.digest_matrix_from_token_sets(sets, config.hashes, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def near_copies(
    found: Signatures, droppable: npt.NDArray[np.bool_], config: DuplicatesConfig
) -> npt.NDArray[np.int64]:
    """For each document the earlier one that it resembles, -1 if there is none.

    Only `droppable` documents are looked up; the others can only be matched.
    """
    from datasketch import MinHash, MinHashLSH

    shape = (config.bands, config.hashes // config.bands)
    index = MinHashLSH(num_perm=config.hashes, params=shape)
    like = np.full(len(found), -1, dtype=np.int64)
    for number, values in enumerate(found):
        sketch = MinHash(
            num_perm=config.hashes, hashvalues=values.astype(np.uint64), scheme="legacy"
        )
        if droppable[number]:
            near = sorted(
                other
                for other in index.query(sketch)
                if np.mean(found[other] == values) >= config.similarity
            )
            if near:
                like[number] = near[0]
                continue
        index.insert(number, sketch, check_duplication=False)
    return like


def _shingles(text: str, size: int) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[at : at + size]) for at in range(max(1, len(words) - size + 1))]
