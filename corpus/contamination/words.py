"""Words as defined by Brown et al. 2020: "lowercase, whitespace-delimited, with no punctuation".

Letters, numbers and marks (Unicode L*, N*, M*) are kept, lowercased one by one; white space
separates words; every other character is deleted, and a word that becomes empty does not count:
"Don't  stop--now !" is "dont", "stopnow". `words` is the plain implementation; `fold` and `squeeze`
do the same to megabytes at a time.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]


class Word(NamedTuple):
    """A word normalised for comparison, and its position in the original text."""

    text: str  # normalised
    start: int  # characters of the original, from the first that is kept ...
    stop: int  # ... to past the last


class _Folds(dict[str, str]):
    """A character normalised for comparison: lower case, a space, or nothing."""

    def __missing__(self, character: str) -> str:
        folded = ""
        if character.isspace():
            folded = " "
        elif unicodedata.category(character)[0] in "LNM":
            folded = character.lower()
        self[character] = folded
        return folded


_FOLDS = _Folds()


def words(text: str) -> list[Word]:
    """The words of `text`, character by character."""
    found: list[Word] = []
    letters: list[str] = []
    start = stop = 0
    for position, character in enumerate(text):
        folded = _FOLDS[character]
        if folded == " ":
            if letters:
                found.append(Word("".join(letters), start, stop))
                letters = []
        elif folded:
            if not letters:
                start = position
            letters.append(folded)
            stop = position + 1
    if letters:
        found.append(Word("".join(letters), start, stop))
    return found


def encode(text: str) -> bytes:
    """UTF-8, also for an unpaired surrogate, which JSON may contain."""
    return text.encode("utf-8", "surrogatepass")


def decode(raw: bytes) -> str:
    """Inverts `encode`, including unpaired surrogates."""
    return raw.decode("utf-8", "surrogatepass")


_ASCII = [chr(code) for code in range(128)]
_DELETED = bytes(ord(each) for each in _ASCII if not _FOLDS[each])
_LOWER = bytes(ord(_FOLDS[each] or each) for each in _ASCII) + bytes(range(128, 256))
_SEPARATOR = bytes(32 * each.isspace() for each in _ASCII) + bytes(128)


def squeeze(folded: bytes) -> bytes:
    """Words and, for each white-space character, a space; from folded UTF-8.

    Words have equal bytes if and only if they are equal; these are UTF-8 except for a few letters.
    """
    return folded.translate(_LOWER, _DELETED)


def separators(folded: bytes) -> NDArray[np.int64]:
    """The position of each white-space character's last byte in folded UTF-8."""
    return np.flatnonzero(np.frombuffer(folded.translate(_SEPARATOR), np.uint8) != 0)


# Lower case is never longer than upper case, and so fits in its place, except for three letters
# ("İ" becomes "i" and a dot). For these the long form has a shorter spelling: 0xff is never UTF-8.
_SHORT = {"ⱥ": "Ⱥ".encode(), "ⱦ": "Ⱦ".encode(), "\u0307": b"\xff"}
_NOTHING = b"\x01"  # any byte that `squeeze` deletes, but not 0, which fills
_WIDTHS = ((2, 0xC0, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0xF8))
"""Bytes of a UTF-8 character, its least first byte, and the end of these."""

_folded_points = np.zeros(0x110000, np.uint32)
"""By code point, the bytes of the folded character; 0 until it is first seen."""


def fold(raw: bytes) -> bytes:
    """UTF-8 with non-ASCII characters folded in place, padded with zeros on the left."""
    if raw.isascii():
        return raw
    cells = np.frombuffer(raw, np.uint8).copy()
    # A folded character is never wider, so none is folded twice.
    for width, low, high in _WIDTHS:
        at = np.flatnonzero((cells >= low) & (cells < high))
        if at.size:
            folded = _look_up(_points(cells, at, width), width)
            for place in range(width):
                cells[at + place] = folded >> np.uint32(8 * place)
    return cells.tobytes()


def _points(cells: Bytes, at: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The code points of the characters that begin at `at`."""
    points = cells[at].astype(np.int64) & (0x7F >> width)
    for place in range(1, width):
        points <<= 6
        points |= cells[at + place] & 0x3F
    return points


def _look_up(points: NDArray[np.int64], width: int) -> NDArray[np.uint32]:
    folded = _folded_points[points]
    unseen = points[folded == 0]
    if not unseen.size:
        return folded
    for point in np.unique(unseen).tolist():
        spelled = b"".join(_SHORT.get(each, encode(each)) for each in _FOLDS[chr(point)])
        filled = (spelled or _NOTHING).rjust(width, b"\0")
        _folded_points[point] = int.from_bytes(filled, "little")
    return _folded_points[points]
