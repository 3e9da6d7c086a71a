"""Samples by global number: an endless sequence that depends only on the tokens and the seed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from configs.errors import InputError, RunError
from corpus.dataset.epoch import Epoch, Positions, open_tokens
from corpus.dataset.shuffle import samples_in
from corpus.store.prepared import check_whole
from corpus.store.token_file import check_index


class Samples:
    """The token file at `prefix`, packed into samples of context + 1 tokens.

    Documents are concatenated with end-of-text between them and split regardless of it, as in
    GPT-3. Sample `n` is sample n % len of epoch n // len, and every epoch has its own order, so
    that sample `n` does not depend on how many will be drawn, by which rank or from where a run was
    resumed. Each token but an epoch's first is a target once per epoch, except the last few that
    fill no sample.

    For validation, always pass the same seed: the order is then always the same.
    """

    def __init__(
        self, prefix: Path | str, *, context: int, seed: int, vocab: int | None = None
    ) -> None:
        """`vocab`: every token id is below it, or reading a sample raises RunError.

        Raises InputError if a token file is incomplete or holds less than one sample.
        """
        path = Path(prefix)
        check_whole(path.parent)
        count = check_index(path)
        if count <= context:
            raise InputError(
                f"{path}.bin holds {count:,} tokens, and one sample of model.context={context} "
                f"needs {context + 1:,}"
            )
        tokens = open_tokens(path)
        self._size = samples_in(count, context)

        @lru_cache(maxsize=2)  # a batch may span two epochs
        def epoch(number: int) -> Epoch:
            return Epoch(tokens, context=context, seed=seed, number=number)

        self.epoch = epoch
        self._path = path
        self._vocab = vocab

    def __len__(self) -> int:
        """Samples per epoch."""
        return self._size

    def __getitem__(self, number: int) -> npt.NDArray[np.int64]:
        """Global sample `number` >= 0, unbounded: shape (context + 1,)."""
        if number < 0:
            raise IndexError(f"samples are numbered from 0, not {number}")
        epoch, index = divmod(number, self._size)
        tokens = self.epoch(epoch).tokens(index)
        if self._vocab is not None and (largest := int(tokens.max())) >= self._vocab:
            document, offset = (int(place[0]) for place in self.positions(np.array([number])))
            raise RunError(
                f"{self._path}.bin is damaged: document {document:,} from token {offset:,} on has "
                f"the id {largest:,}, beyond model.vocab={self._vocab}; delete the folder "
                f"{self._path.parent} and run phalanx prepare again"
            )
        return tokens

    def starts(self, number: int) -> npt.NDArray[np.int32]:
        """Where documents begin in a sample, shape (context,), as `Epoch.starts` has it."""
        epoch, index = divmod(number, self._size)
        return self.epoch(epoch).starts(index)

    def positions(self, numbers: npt.NDArray[np.int64]) -> tuple[Positions, Positions]:
        """The samples' start positions: documents of the token file, and tokens within them."""
        epochs, indices = np.divmod(numbers, self._size)
        documents, offsets = np.zeros_like(numbers), np.zeros_like(numbers)
        for number in np.unique(epochs):
            mine = epochs == number
            documents[mine], offsets[mine] = self.epoch(int(number)).positions(indices[mine])
        return documents, offsets

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        """The first epoch."""
        return (self[number] for number in range(self._size))
