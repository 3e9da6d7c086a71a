"""Which text is held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import InputError
from corpus.documents import Document

ENOUGH = 16_384  # bytes of validation text that even a small corpus should give up


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    documents: Sequence[Document]
    train: Sequence[Document]
    validation: Sequence[Document]


def hold_out(documents: Sequence[Document], fraction: float) -> Split:
    """Training and validation documents.

    A document is held out if the hash of its content says so, whatever the others are and
    wherever it stands; so equal documents are never on both sides, and a corpus that grows keeps
    its held-out part. If that gives a share of the bytes far from `fraction`, as it must with few
    documents or one huge one, the tail of each document is held out instead.
    Raises InputError if `fraction` is not between 0 and 0.5.
    """
    if not 0 < fraction <= 0.5:
        raise InputError(f"corpus.validation_fraction={fraction} must be above 0 and at most 0.5")
    total = _size(documents)
    held = [document for document in documents if _position(document) < fraction]
    needed = min(ENOUGH, total / 4)
    if max(fraction / 4 * total, needed) <= _size(held) <= min(4 * fraction, 0.75) * total:
        kept = [document for document in documents if _position(document) >= fraction]
        return Split(documents=documents, train=kept, validation=held)
    pairs = [document.divided(max(fraction, needed / total)) for document in documents]
    return Split(
        documents=documents,
        train=[head for head, _ in pairs if head.size],
        validation=[tail for _, tail in pairs if tail.size],
    )


def _position(document: Document) -> float:
    """A number in [0, 1) that depends on the content alone."""
    return int(document.digest[:13], 16) / 16**13


def _size(documents: Sequence[Document]) -> int:
    return sum(document.size for document in documents)
