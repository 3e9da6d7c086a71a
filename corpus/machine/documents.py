"""The order in which documents of this machine are taken, and how many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Named(NamedTuple):
    """A document's text under a name that is stable across runs."""

    name: str
    text: str


def hashed(name: str) -> bytes:
    """A sort key that shuffles names deterministically, so that a prefix is a fair sample."""
    return hashlib.sha256(name.encode()).digest()


class Room:
    """How much more text may be taken, of `max_bytes` in UTF-8; 0: unlimited."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._taken = 0
        self._seen: set[bytes] = set()
        self.full = False

    def take(self, text: str) -> bool:
        """Whether this text is taken: it is not blank, not a duplicate, and fits."""
        try:
            data = text.encode()
        except UnicodeEncodeError:  # an unpaired surrogate
            return False
        digest = hashlib.sha256(data).digest()
        if self.full or digest in self._seen or not text.strip():
            return False
        if self._max and self._taken + len(data) > self._max:
            # One long document must not end the sample.
            self.full = self._taken > 0.9 * self._max
            return False
        self._taken += len(data)
        self._seen.add(digest)
        return True


def chosen(documents: Iterable[Named], max_bytes: int) -> Iterator[Named]:
    """The documents that fit, in order."""
    room = Room(max_bytes)
    for document in documents:
        if room.take(document.text):
            yield document
        if room.full:
            return
