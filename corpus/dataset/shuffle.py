"""Where the orders of very large epochs are kept, and which a run needs. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from corpus.store.prepared import Prepared

SHARED = 1 << 22  # samples; from here on an epoch's order is made once and mapped from disk


def samples_in(tokens: int, context: int) -> int:
    """Of one epoch: each sample has one target more than it shares with the next."""
    return (tokens - 1) // context


def order_folder(prefix: Path, *, context: int, seed: int, epoch: int) -> Path:
    """Of the token files at `prefix`."""
    return prefix.parent / "orders" / f"{prefix.name}-context{context}-seed{seed}-epoch{epoch}"


def source_seed(seed: int, name: str) -> int:
    """32 bits; sources of the same length are not to be read in the same order."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")


def missing_orders(
    prepared: Prepared, shares: Mapping[str, float], *, context: int, seed: int, samples: int
) -> Iterator[tuple[str, int]]:
    """Source and epoch of each large order that a run of `samples` reads and nobody has made."""
    for source in prepared.sources:
        size = samples_in(source.tokens, context)
        if size < SHARED:
            continue
        prefix, own = prepared.tokens(source.name, "train"), source_seed(seed, source.name)
        for epoch in range(-(-int(shares[source.name] * samples + 1) // size)):
            if not order_folder(prefix, context=context, seed=own, epoch=epoch).is_dir():
                yield source.name, epoch
