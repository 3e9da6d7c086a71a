"""What a run will read from each source, before it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corpus.dataset.shuffle import samples_in
from corpus.store.prepared import Prepared

FEW = 2  # samples by which a source may deviate from its share
WORTH = 40
"""Epochs after which repeating text has no benefit: up to 4 are nearly as good as new text, from
about 16 on the gain diminishes, and by 40 it is gone (Muennighoff et al. 2023)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """A source over an entire run."""

    name: str
    tokens: int  # training tokens per epoch
    share: float
    samples: int  # over the run; within two of what is read, exact if some source has few
    epochs: float
    wraps_at: int | None  # the global sample at which it first starts over


def plan_mixture(
    prepared: Prepared, shares: Mapping[str, float], *, context: int, samples: int
) -> list[SourcePlan]:
    """`samples`: the number of samples of the run."""
    plans = []
    counts = _counts([shares[source.name] for source in prepared.sources], samples)
    for source, drawn in zip(prepared.sources, counts, strict=True):
        share, size = shares[source.name], samples_in(source.tokens, context)
        plans.append(
            SourcePlan(
                name=source.name,
                tokens=source.tokens,
                share=share,
                samples=drawn,
                epochs=drawn / size,
                wraps_at=math.ceil(size / share) if drawn > size else None,
            )
        )
    return plans


def _counts(shares: Sequence[float], samples: int) -> list[int]:
    """Samples of each source; only the mixture itself decides whether a small one is read."""
    if all(share == 0 or share * samples >= FEW for share in shares):
        return [round(share * samples) for share in shares]
    from corpus.dataset.mixture import counts  # here, as it imports torch

    return counts(shares, samples)
