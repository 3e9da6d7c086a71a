"""The training filter: removes from documents what they share with benchmarks.

Two passes over the corpus: the first scans every document and counts how many contain each gram;
the second cuts around the rare grams. Common phrases are in many, and are no contamination.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import TypeAlias

import numpy as np

from configs.errors import InputError
from corpus.contamination.benchmarks import Benchmark
from corpus.contamination.grams import GramTable, build_table
from corpus.contamination.hashing import Numbers
from corpus.contamination.scan import Hit, Scanner

Span: TypeAlias = tuple[int, int]
"""The first character and past the last."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The `contamination` settings, which default to the paper's values."""

    window: int  # characters removed on either side of a gram
    min_piece: int  # characters; shorter pieces are dropped
    max_pieces: int  # documents cut into more are dropped
    max_documents: int  # grams found in more documents are ignored


class Dropped(StrEnum):
    """Why nothing is left of a document."""

    pieces = "cut into too many pieces"
    short = "no piece is long enough"


@dataclass(frozen=True)
class Cut:
    """What is left of a document."""

    pieces: tuple[Span, ...]  # of the document, in order; none if it is dropped
    dropped: Dropped | None = None


def filter_table(benchmarks: Iterable[Benchmark], n: int) -> GramTable:
    """All grams of n words; an example of fewer words has none, as the paper's filter has one N.

    Raises InputError where no example has as many words: there is nothing to look for.
    """
    table = build_table([example for each in benchmarks for example in each.examples], n)
    if not len(table):
        raise InputError(f"contamination.n={n}: no example of the benchmarks has {n} words")
    return table


def document_counts(hits: Iterable[Hit], num_grams: int) -> Numbers:
    """In how many of the texts scanned together each gram was found.

    Sums over several scans are counts over all their texts.
    """
    places = {(hit.text, hit.gram) for hit in hits}
    return np.bincount(np.array([gram for _, gram in places], np.int64), minlength=num_grams)


def without_common(hits: Iterable[Hit], counts: Numbers, max_documents: int) -> list[Hit]:
    """The hits of grams that are in at most `max_documents` documents."""
    return [hit for hit in hits if counts[hit.gram] <= max_documents]


def cut(text: str, found: Iterable[Span], rules: Rules) -> Cut:
    """What is left of `text` when the grams found in it, with a window around each, are removed.

    Windows that touch remove one stretch together. Pieces are counted before short ones are
    dropped: how often a document collides decides, not how far apart. A document in which nothing
    was found stays whole, however short.
    """
    pieces: list[Span] = []
    begin = 0
    found = sorted(found)
    for start, stop in found:
        if start - rules.window > begin:
            pieces.append((begin, start - rules.window))
        begin = max(begin, stop + rules.window)
    if begin < len(text) or not found:
        pieces.append((begin, len(text)))
    if len(pieces) > rules.max_pieces:
        return Cut((), Dropped.pieces)
    long = tuple(piece for piece in pieces if not found or piece[1] - piece[0] >= rules.min_piece)
    return Cut(long, None if long else Dropped.short)


def filter_documents(texts: Sequence[str], table: GramTable, rules: Rules) -> list[Cut]:
    """Both passes over texts in memory."""
    hits = Scanner(table).scan(texts)
    hits = without_common(hits, document_counts(hits, len(table)), rules.max_documents)
    found = {
        number: [(hit.start, hit.stop) for hit in group]
        for number, group in groupby(hits, key=lambda hit: hit.text)
    }
    return [cut(text, found.get(number, ()), rules) for number, text in enumerate(texts)]
