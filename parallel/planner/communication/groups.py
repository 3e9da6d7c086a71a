"""Names for sets of ranks, and a ledger of their traffic. Imports no torch."""

from __future__ import annotations

import math

from parallel.layout import AXES, Layout
from parallel.planner.communication.traffic import SPANS, CollectiveKind, Group, Traffic, totals

WITHIN_A_STAGE = tuple(axis for axis in AXES if axis != "pipeline")
Extent = tuple[tuple[int, ...], frozenset[int]]
"""How many ranks a group has along each axis within a stage, and on which stages it is."""


def members(layout: Layout, rank: int) -> dict[Group, set[int]]:
    """The ranks of each group that `rank` is in, in the order of `Group`.

    The embedding group lists the stages that hold it, whether or not `rank` is on one of them.
    """
    here = layout.coordinates(rank)
    found = {}
    for group, spanned in SPANS.items():
        at = {axis: [getattr(here, axis)] for axis in AXES if axis not in spanned}
        if group is Group.embedding:
            at["pipeline"] = [0, layout.logits_stage]
        found[group] = set(layout.ranks(at))
    return found


def extents(layout: Layout, stage: int) -> dict[Group, Extent]:
    """The same groups for a rank of `stage`, described without listing ranks."""
    found: dict[Group, Extent] = {}
    for group, spanned in SPANS.items():
        sizes = tuple(layout.size(axis) if axis in spanned else 1 for axis in WITHIN_A_STAGE)
        stages = range(layout.pipeline) if "pipeline" in spanned else [stage]
        if group is Group.embedding:
            stages = [0, layout.logits_stage]
        found[group] = (sizes, frozenset(stages))
    return found


class Ledger:
    """Collects the traffic of the first rank of one stage."""

    def __init__(self, layout: Layout, stage: int) -> None:
        self._extents = extents(layout, stage)
        self._entries: list[Traffic] = []

    def add(self, group: Group, kind: CollectiveKind, each: int, count: int = 1) -> None:
        """Adds `count` collectives of `each` bytes; none if the group has only one rank."""
        extent = self._extents[group]
        sizes, stages = extent
        if math.prod(sizes) * len(stages) > 1 and count:
            name = next(other for other, those in self._extents.items() if those == extent)
            self._entries.append(Traffic(group=name, kind=kind, count=count, bytes=count * each))

    def exchange(self, each: int, sends: int, receives: int) -> None:
        """Messages with other stages of the same model."""
        for kind, count in ((CollectiveKind.send, sends), (CollectiveKind.recv, receives)):
            if count:
                self._entries.append(
                    Traffic(group=Group.pipeline, kind=kind, count=count, bytes=count * each)
                )

    def traffic(self) -> list[Traffic]:
        """What was added, summed by group and kind."""
        return totals(self._entries)
