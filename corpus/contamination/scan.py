"""Finds the grams of a table in text: exactly, at about the speed of reading it from a disk."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from corpus.contamination.grams import GramTable
from corpus.contamination.hashing import Powers, Rolling, hash_words
from corpus.contamination.words import decode, encode, fold, separators, squeeze, words

BATCH = 1 << 19  # characters scanned at once: temporaries of a few megabytes stay in the cache
_SPACE = re.compile(r"\s")  # as str.isspace has it


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
    """Words with the hash of a gram."""

    gram: int
    first: int  # white space before the first word
    last: int  # and after the last, by number


class Scanner:
    """Scans text for the grams of a table."""

    def __init__(self, table: GramTable) -> None:
        self._table = table
        self._powers = Powers(1 << 16)

    def scan(self, texts: Sequence[str]) -> list[Hit]:
        """Every place of every gram, ordered by text and place.

        A gram lies within one text. A long text takes no more memory than the text itself and a
        few megabytes.
        """
        if not len(self._table):
            return []
        hits: set[Hit] = set()  # stretches of a long text overlap
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
        candidates = self._candidates(squeeze(folded))
        if not candidates:
            return
        spaces = [-1, *separators(folded).tolist(), len(raw)]
        starts = list(accumulate((len(each) + 1 for each in encoded), initial=0))
        number, at, offset = -1, 0, 0  # the piece, a byte in it, and the character that is there
        for candidate in sorted(candidates, key=lambda each: each.first):
            start, stop = spaces[candidate.first] + 1, spaces[candidate.last] + 1
            if number < 0 or start >= starts[number + 1]:
                number = bisect_right(starts, start) - 1
                at, offset = starts[number], pieces[number].offset
            if stop > starts[number + 1]:
                continue  # goes on in the next text
            offset, at = offset + len(decode(raw[at:start])), start
            found = words(decode(raw[start:stop]))
            if [word.text for word in found] == self._table.words(candidate.gram):
                span = offset + found[0].start, offset + found[-1].stop
                yield Hit(pieces[number].number, candidate.gram, *span)

    def _candidates(self, squeezed: bytes) -> list[_Candidate]:
        hashes, tokens = hash_words(squeezed)
        if len(hashes) > len(self._powers):
            self._powers = Powers(2 * len(hashes))
        rolling = Rolling(hashes, self._powers)
        found = []
        for shelf in self._table.shelves:
            grams = rolling.grams(shelf.length)
            for place in shelf.search(grams).tolist():
                first, last = int(tokens[place]), int(tokens[place + shelf.length - 1]) + 1
                found += [_Candidate(gram, first, last) for gram in shelf.grams_with(grams[place])]
        return found


def stretches(text: str, size: int, overlap: int) -> Iterator[tuple[int, str]]:
    """A text in stretches of about `size` characters, each with its offset.

    Each ends at white space and begins with the last `overlap` words of the one before, so that
    every run of one word more is whole in one of them.
    """
    begin = stop = 0
    while space := _SPACE.search(text, stop + size):
        stop = space.end()
        yield begin, text[begin:stop]
        begin = _last_words(text, begin, stop, overlap)
    yield begin, text[begin:]


def _last_words(text: str, begin: int, stop: int, number: int) -> int:
    """Where the last `number` words before `stop` begin; `begin` if there are not so many."""
    if not number:
        return stop
    width = 16 * number
    while stop - width > begin:
        low = stop - width
        found = words(text[low:stop])
        if len(found) > number:  # the first may be cut
            return low + found[-number].start
        width *= 2
    found = words(text[begin:stop])
    return begin + found[-number].start if len(found) >= number else begin


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
