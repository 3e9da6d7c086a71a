"""Names for sets of ranks, and a ledger of their traffic. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

from parallel.layout import AXES, ExpertCoordinates, Layout
from parallel.planner.communication.traffic import (
    EXPERT_SPANS,
    SPANS,
    CollectiveKind,
    Group,
    Traffic,
    totals,
)

WITHIN_A_STAGE = tuple(axis for axis in AXES if axis != "pipeline")
EXPERTS_WITHIN = tuple(axis for axis in ExpertCoordinates._fields if axis != "pipeline")
Extent = tuple[tuple[tuple[int, int], ...], frozenset[int]]
"""Which ranks of a stage a group has, as (distance, count) of evenly spaced ones, of groups of
these, and so on; and on which stages it is."""


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
    for group, spanned in EXPERT_SPANS.items():
        found[group] = set(layout.expert_group(rank, *spanned))
    return {group: found[group] for group in Group}


def extents(layout: Layout, stage: int) -> dict[Group, Extent]:
    """The same groups for the first rank of `stage`, described without listing ranks.

    Two descriptions are equal if and only if the groups are, however the ranks were folded.
    """
    ways = (
        (SPANS, WITHIN_A_STAGE, [layout.size(axis) for axis in WITHIN_A_STAGE]),
        (EXPERT_SPANS, EXPERTS_WITHIN, layout.expert_sizes),
    )
    found: dict[Group, Extent] = {}
    for spans, axes, sizes in ways:
        for group, spanned in spans.items():
            inside = _spaced(
                (size, axis in spanned) for axis, size in zip(axes, sizes, strict=True)
            )
            stages = range(layout.pipeline) if "pipeline" in spanned else [stage]
            if group is Group.embedding:
                stages = [0, layout.logits_stage]
            found[group] = (inside, frozenset(stages))
    return {group: found[group] for group in Group}


def _spaced(axes: Iterable[tuple[int, bool]]) -> tuple[tuple[int, int], ...]:
    """Of axes with their sizes, fastest first, and whether a group spans them.

    Neighbouring axes of one group are one row of evenly spaced ranks.
    """
    rows: list[tuple[int, int]] = []
    distance = 1
    for size, spanned in axes:
        if spanned and size > 1:
            if rows and math.prod(rows[-1]) == distance:
                rows[-1] = (rows[-1][0], rows[-1][1] * size)
            else:
                rows.append((distance, size))
        distance *= size
    return tuple(rows)


class Ledger:
    """Collects the traffic of the first rank of one stage."""

    def __init__(self, layout: Layout, stage: int) -> None:
        self._extents = extents(layout, stage)
        self._entries: list[Traffic] = []

    def add(self, group: Group, kind: CollectiveKind, each: int, count: int = 1) -> None:
        """Adds `count` collectives of `each` bytes; none if the group has only one rank."""
        extent = self._extents[group]
        inside, stages = extent
        if (inside or len(stages) > 1) and count:
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
