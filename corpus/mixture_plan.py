"""What a run will read of each source, before it begins. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from corpus.cache import Prepared
from corpus.orders import samples_in


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """A source over a whole run."""

    name: str
    tokens: int  # to train on, in one epoch
    share: float
    samples: float  # over the run; within two of what is read
    epochs: float
    wraps_at: int | None  # the global sample at which it begins anew for the first time


def plan_mixture(
    prepared: Prepared, shares: Mapping[str, float], *, context: int, samples: int
) -> list[SourcePlan]:
    """`samples` are those of the run."""
    plans = []
    for source in prepared.sources:
        share, size = shares[source.name], samples_in(source.tokens, context)
        drawn = share * samples
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
