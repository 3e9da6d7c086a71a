"""Chooses the text held out for validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ENOUGH = 16_384  # bytes of validation text expected even from a small source
LINE = 1 << 16  # characters within which a line is expected to end


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Entire documents, or if there are too few of them the tail of each."""

    documents: npt.NDArray[np.bool_]
    tail: float  # of each document; 0: entire documents


def hold_out(
    sizes: npt.NDArray[np.int64], digests: npt.NDArray[np.uint64], fraction: float
) -> HeldOut:
    """Chooses about `fraction` of the documents' bytes for validation.

    Whether a document is held out depends only on the hash of its content, so equal documents are
    never in both parts, and a growing corpus keeps its held-out part. If the resulting share of
    bytes is far from `fraction`, as with few documents or one huge one, the tail of each document
    is held out instead.
    """
    total = int(sizes.sum())
    chosen = digests < np.uint64(int(fraction * 2**64))
    held = int(sizes[chosen].sum())
    needed = min(ENOUGH, total / 4)
    if max(fraction / 4 * total, needed) <= held <= min(4 * fraction, 0.75) * total:
        return HeldOut(chosen, 0.0)
    return HeldOut(np.zeros(len(sizes), np.bool_), max(fraction, needed / max(total, 1)))


def divide(text: str, tail: float) -> tuple[str, str]:
    """Splits into head and tail; the tail is about that fraction and begins a line if possible."""
    at = round(len(text) * (1 - tail))
    after = text.find("\n", max(at - 1, 0), at + LINE) + 1
    if not 0 < after < len(text):
        after = text.rfind("\n", max(at - LINE, 0), at) + 1 or at
    return text[:after], text[after:]
