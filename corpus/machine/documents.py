"""Documents found on this machine: in which order they are taken, and how many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Named(NamedTuple):
    """A document's text under a name that is the same in every run."""

    name: str
    text: str


def hashed(name: str) -> bytes:
    """Sorting names by this mixes them, the same way each time; a cut leaves a fair sample."""
    return hashlib.sha256(name.encode()).digest()


class Room:
    """How much more text may be taken, of `max_bytes` in UTF-8; 0: any amount."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._taken = 0
        self._seen: set[bytes] = set()
        self.full = False

    def take(self, text: str) -> bool:
        """Whether this text is taken: it is not blank, was not taken before, and fits."""
        try:
            data = text.encode()
        except UnicodeEncodeError:  # half a surrogate pair
            return False
        digest = hashlib.sha256(data).digest()
        if self.full or digest in self._seen or not text.strip():
            return False
        if self._max and self._taken + len(data) > self._max:
            # One long document must not be the end of the sample.
            self.full = self._taken > 0.9 * self._max
            return False
        self._taken += len(data)
        self._seen.add(digest)
        return True


def chosen(documents: Iterable[Named], max_bytes: int) -> Iterator[Named]:
    """The documents, in their order, that there is room for."""
    room = Room(max_bytes)
    for document in documents:
        if room.take(document.text):
            yield document
        if room.full:
            return
