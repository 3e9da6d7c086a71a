"""Where the orders of very large epochs are stored, and which a run needs. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from corpus.store.prepared import Prepared

SHARED = 1 << 22  # samples; above this an epoch's order is created once and memory-mapped


def samples_in(tokens: int, context: int) -> int:
    """Samples of one epoch: consecutive samples share one token."""
    return (tokens - 1) // context


def order_folder(prefix: Path, *, context: int, seed: int, epoch: int) -> Path:
    """The folder of an epoch's order, for the token files at `prefix`."""
    return prefix.parent / "orders" / f"{prefix.name}-context{context}-seed{seed}-epoch{epoch}"


def source_seed(seed: int, name: str) -> int:
    """A 32-bit seed per source, so that sources of equal length get different orders."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")


def missing_orders(
    prepared: Prepared, shares: Mapping[str, float], *, context: int, seed: int, samples: int
) -> Iterator[tuple[str, int]]:
    """Source and epoch of each large order that a run of `samples` needs and that is missing."""
    for source in prepared.sources:
        size = samples_in(source.tokens, context)
        if size < SHARED:
            continue
        prefix, own = prepared.tokens(source.name, "train"), source_seed(seed, source.name)
        for epoch in range(-(-int(shares[source.name] * samples + 1) // size)):
            if not order_folder(prefix, context=context, seed=own, epoch=epoch).is_dir():
                yield source.name, epoch
