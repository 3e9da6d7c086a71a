"""Finds the grams of a table in text, exactly, at about disk speed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from corpus.contamination.grams import GramTable, Ids
from corpus.contamination.hashing import Hashes, Numbers, Powers, Rolling, hash_words
from corpus.contamination.stretches import stretches
from corpus.contamination.words import Word, decode, encode, fold, separators, squeeze, words

BATCH = 1 << 19  # characters scanned at once: temporaries of a few megabytes fit into the cache


class Hit(NamedTuple):
    """A gram of the table in a text."""

    text: int  # which of the texts scanned
    gram: int
    start: int  # characters of the text, from the first kept one of the first word ...
    stop: int  # ... to past the last kept one of the last


class _Piece(NamedTuple):
    """A text, or a stretch of a long one."""

    number: int
    offset: int  # characters
    text: str


class _Candidate(NamedTuple):
    """Words whose hash is that of a gram."""

    gram: int
    first: int  # word of the batch
    piece: int
    start: int  # bytes of the batch, from past the white space before the words ...
    stop: int  # ... to past the white space after them


class Scanner:
    """Scans text for the grams of a table."""

    def __init__(self, table: GramTable) -> None:
        self._table = table
        self._powers = Powers(1 << 16)

    def scan(self, texts: Sequence[str]) -> list[Hit]:
        """All occurrences of all grams, ordered by text and position.

        A gram lies within one text. A long text takes only a few megabytes besides the text itself.
        """
        if not len(self._table):
            return []
        hits: set[Hit] = set()  # pieces of a long text overlap
        for batch in _batches(self._pieces(texts)):
            hits.update(self._scan(batch))
        return sorted(hits, key=lambda hit: (hit.text, hit.start, hit.stop))

    def _pieces(self, texts: Iterable[str]) -> Iterator[_Piece]:
        for number, text in enumerate(texts):
            for offset, stretch in stretches(text, BATCH, self._table.longest - 1):
                yield _Piece(number, offset, stretch)

    def _scan(self, pieces: Sequence[_Piece]) -> Iterator[Hit]:
        encoded = [encode(piece.text) for piece in pieces]
        raw = b"\n".join(encoded)
        folded = fold(raw)
        hashes, tokens = hash_words(squeeze(folded))
        firsts, grams = self._search(hashes)
        if not firsts.size:
            return
        lasts = firsts + self._table.lengths[grams] - 1
        spaces = np.concatenate(([-1], separators(folded), [len(raw)]))
        starts, stops = spaces[tokens[firsts]] + 1, spaces[tokens[lasts] + 1] + 1
        borders = np.cumsum([0, *(len(each) + 1 for each in encoded)])
        owners = np.searchsorted(borders, starts, "right") - 1
        columns = np.stack([grams, firsts, owners, starts, stops], axis=1)
        within = stops <= borders[owners + 1]  # the others go on in the next piece
        reader = _Reader(raw, borders, pieces)
        for row in columns[within][np.argsort(firsts[within])].tolist():
            candidate = _Candidate(*row)
            found = reader.read(candidate, int(self._table.lengths[candidate.gram]))
            if [word.text for word in found] == self._table.words(candidate.gram):
                number = pieces[candidate.piece].number
                yield Hit(number, candidate.gram, found[0].start, found[-1].stop)

    def _search(self, hashes: Hashes) -> tuple[Numbers, Ids]:
        """Pairs of a word and a gram such that the run beginning with the word has its hash."""
        if len(hashes) > len(self._powers):
            self._powers = Powers(2 * len(hashes))
        rolling = Rolling(hashes, self._powers)
        found = [index.search(rolling.grams(index.length)) for index in self._table.indexes]
        firsts, grams = zip(*found, strict=True)
        return np.concatenate(firsts), np.concatenate(grams)


class _Reader:
    """Reads the words of candidates, requested in order, from a batch: each word once."""

    def __init__(self, raw: bytes, borders: Numbers, pieces: Sequence[_Piece]) -> None:
        self._raw, self._borders, self._pieces = raw, borders, pieces
        self._piece = -1
        self._at = self._character = 0  # where it has read to: byte of the batch, and of the text
        self._first = 0  # word of the batch
        self._words: list[Word] = []  # from that one on, with their places in the text

    def read(self, candidate: _Candidate, length: int) -> list[Word]:
        if candidate.piece != self._piece:
            self._piece = candidate.piece
            self._at = int(self._borders[candidate.piece])
            self._character = self._pieces[candidate.piece].offset
            self._words = []
        if not self._words or candidate.first > self._first + len(self._words):
            self._character += len(decode(self._raw[self._at : candidate.start]))
            self._at = candidate.start
            self._first, self._words = candidate.first, []
        if candidate.stop > self._at:
            text = decode(self._raw[self._at : candidate.stop])
            for word in words(text):
                start, stop = self._character + word.start, self._character + word.stop
                self._words.append(Word(word.text, start, stop))
            self._at, self._character = candidate.stop, self._character + len(text)
        begin = candidate.first - self._first
        return self._words[begin : begin + length]


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text) + 1
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
