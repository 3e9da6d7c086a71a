"""The word n-grams of benchmark examples, in a table that is fast to search text with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.contamination.hashing import Numbers, Powers, Rolling, hash_words
from corpus.contamination.ngram_index import NgramIndex
from corpus.contamination.words import encode, fold, squeeze, words
from corpus.store.atomic import from_text_array, text_array

Ids = NDArray[np.int32]
_ARRAYS = ("tokens", "starts", "lengths", "owned", "owned_starts")  # of a table
_OF_A_SHELF = ("hashes", "grams", "bitmap")


@dataclass(frozen=True, eq=False)
class GramTable:
    """Distinct grams, numbered from 0, of one or several lengths, and the examples they are from.

    Worker processes read it from a file. It takes 18 bytes per gram and 4 to 8 of bitmap, 4 for
    each occurrence of a gram in an example and 4 for each word of the examples: 33 for each of the
    508,080 13-grams of LAMBADA and BoolQ, including the distinct words.
    """

    indexes: tuple[NgramIndex, ...]  # one for each length
    vocabulary: tuple[str, ...]
    tokens: Ids  # all examples one after the other, as numbers in the vocabulary
    starts: Ids  # where in the tokens a gram is first found
    lengths: NDArray[np.int16]  # words of each gram
    owned: Ids  # grams, example by example
    owned_starts: Numbers  # where those of each example begin, and the end

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of its arrays, for a file."""
        content = {name: getattr(self, name) for name in _ARRAYS}
        content["vocabulary"] = text_array(self.vocabulary)
        content["shelves"] = np.array([index.length for index in self.indexes], np.int64)
        for index in self.indexes:
            for name in _OF_A_SHELF:
                content[f"{name}.{index.length}"] = getattr(index, name)
        return content

    @classmethod
    def of_arrays(cls, content: Mapping[str, NDArray[Any]]) -> GramTable:
        """Rebuilds the table from `arrays`."""
        return cls(
            **{name: content[name] for name in _ARRAYS},
            vocabulary=tuple(from_text_array(content["vocabulary"])),
            indexes=tuple(
                NgramIndex(length, *(content[f"{name}.{length}"] for name in _OF_A_SHELF))
                for length in content["shelves"].tolist()
            ),
        )

    def __len__(self) -> int:
        """The number of distinct grams."""
        return len(self.starts)

    @property
    def longest(self) -> int:
        """Words of the longest gram; 0 if there are none."""
        return max((index.length for index in self.indexes), default=0)

    def words(self, gram: int) -> list[str]:
        """The words of a gram, folded for comparison."""
        start = int(self.starts[gram])
        tokens = self.tokens[start : start + int(self.lengths[gram])]
        return [self.vocabulary[token] for token in tokens.tolist()]

    def owned_by(self, example: int) -> Ids:
        """The grams of an example, including repetitions."""
        return self.owned[self.owned_starts[example] : self.owned_starts[example + 1]]


def build_table(examples: Sequence[str], lengths: int | Sequence[int]) -> GramTable:
    """The distinct grams of all examples.

    Args:
        lengths: words of a gram, of all examples or of each. An example of fewer words has none.
    """
    vocabulary: dict[str, int] = {}
    tokens: list[int] = []
    ends = [0]
    for example in examples:
        tokens.extend(vocabulary.setdefault(word.text, len(vocabulary)) for word in words(example))
        ends.append(len(tokens))
    wanted = np.full(len(examples), lengths) if isinstance(lengths, int) else np.array(lengths)
    runs = _Runs(np.array(tokens, np.int32))
    by_word = hash_words(squeeze(fold(encode(" ".join(vocabulary))))).hashes
    rolling = Rolling(by_word[runs.tokens], Powers(len(tokens)))
    indexes, starts, gram_lengths, places, owned = [], [], [], [], []
    number = 0
    for length in np.unique(wanted[wanted > 0]).tolist():
        where = _places(np.array(ends), np.flatnonzero(wanted == length), length)
        if not where.size:
            continue
        new, grams = runs.distinct(where, length)
        numbers = np.arange(number, number + len(new), dtype=np.int32)
        indexes.append(NgramIndex.of(length, rolling.grams(length)[new], numbers))
        starts.append(new)
        gram_lengths.append(np.full(len(new), length))
        places.append(where)
        owned.append(number + grams)
        number += len(new)
    order = np.argsort(_joined(places), kind="stable")
    return GramTable(
        indexes=tuple(indexes),
        vocabulary=tuple(vocabulary),
        tokens=runs.tokens,
        starts=_joined(starts).astype(np.int32),
        lengths=_joined(gram_lengths).astype(np.int16),
        owned=_joined(owned)[order].astype(np.int32),
        owned_starts=np.searchsorted(_joined(places)[order], ends),
    )


def _places(ends: Numbers, examples: Numbers, length: int) -> Numbers:
    """The positions in the tokens where the grams of these examples begin."""
    return _joined([np.arange(ends[each], ends[each + 1] - length + 1) for each in examples])


class _Runs:
    """Distinguishes runs of tokens exactly."""

    def __init__(self, tokens: Ids) -> None:
        self.tokens = tokens
        self._kinds: dict[int, Numbers] = {1: tokens.astype(np.int64)}

    def distinct(self, places: Numbers, length: int) -> tuple[Numbers, Numbers]:
        """For the runs at `places`: the first index of each distinct one, and which each run is."""
        kinds = self._of_length(length)[places]
        _, first, which = np.unique(kinds, return_index=True, return_inverse=True)
        return places[first], which

    def _of_length(self, length: int) -> Numbers:
        """A number for the run at each place: equal if and only if the runs are equal.

        A run is identified by its two halves; if its length is odd, they share a word.
        """
        if length not in self._kinds:
            half = (length + 1) // 2
            shorter = self._of_length(half)
            pairs = shorter[: len(self.tokens) - length + 1] * (int(shorter.max()) + 1)
            pairs += shorter[length - half :]
            self._kinds[length] = np.unique(pairs, return_inverse=True)[1]
        return self._kinds[length]


def _joined(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate([np.zeros(0, np.int64), *parts])
