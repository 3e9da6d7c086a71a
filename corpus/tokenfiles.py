"""Documents to Megatron-core's token files: `.bin` holds the tokens, `.idx` the lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corpus.documents import Document
from corpus.quiet import quiet_import
from corpus.tokenizer import Tokenizer

with quiet_import():
    from megatron.core.datasets.indexed_dataset import (
        DType,
        IndexedDatasetBuilder,
        get_bin_path,
        get_idx_path,
    )

BATCH = 1 << 20  # characters encoded at once: the library keeps about 100 bytes a token meanwhile
LONGEST = 1 << 26  # tokens; the index counts in 32 bits, so a longer document becomes several

Tokens = npt.NDArray[np.integer]


def write_tokens(
    prefix: Path,
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    advance: Callable[[int], None] = lambda size: None,
) -> list[int]:
    """Writes `prefix`.bin and .idx; each document is followed by end-of-text.

    Returns the tokens of each document. `advance` is told of bytes of text as they are done.
    """
    dtype = DType.optimal_dtype(tokenizer.size)
    builder = IndexedDatasetBuilder(get_bin_path(str(prefix)), dtype=dtype)
    counts = [0] * len(documents)
    encoded = _encode(documents, tokenizer, dtype, advance)
    for number, parts in groupby(encoded, key=itemgetter(0)):
        for stretch in _stretches((ids for _, ids in parts), dtype(tokenizer.end_of_text)):
            builder.add_document(stretch, [len(stretch)])
            counts[number] += len(stretch)
    builder.finalize(get_idx_path(str(prefix)))
    return counts


def _encode(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    dtype: type[np.integer],
    advance: Callable[[int], None],
) -> Iterator[tuple[int, Tokens]]:
    for batch in _batches(documents):
        texts = [text for _, text in batch]
        for (number, _), ids in zip(batch, tokenizer.encode_batch(texts), strict=True):
            yield number, np.array(ids, dtype=dtype)
        advance(sum(len(text.encode()) for text in texts))


def _batches(documents: Iterable[Document]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    held = 0
    for number, document in enumerate(documents):
        for piece in document.pieces():
            batch.append((number, piece))
            held += len(piece)
            if held >= BATCH:
                yield batch
                batch, held = [], 0
    if batch:
        yield batch


def _stretches(parts: Iterable[Tokens], end: np.integer) -> Iterator[Tokens]:
    """One document's tokens with its end-of-text, all at once unless there are too many."""
    held: list[Tokens] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) >= LONGEST:
            yield np.concatenate(held)
            held = []
    yield np.concatenate([*held, np.array([end])])
