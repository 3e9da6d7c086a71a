"""Names for sets of ranks, and the sum of what goes over them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from parallel.layout import Coordinates, Layout
from parallel.planner.communication.traffic import Group, Kind, Traffic, totals


def members(layout: Layout, rank: int) -> dict[Group, set[int]]:
    """The ranks of each group that `rank` is in, in the order of `Group`.

    That of the embedding is of the stages that hold it, whether or not `rank` is on one of them.
    """
    here = layout.coordinates(rank)
    tensor, data, stages = range(layout.tensor), range(layout.data), range(layout.pipeline)

    def at(t: Iterable[int], d: Iterable[int], p: Iterable[int]) -> set[int]:
        return {layout.rank(Coordinates(i, j, k)) for i in t for j in d for k in p}

    t, d, p = [here.tensor], [here.data], [here.pipeline]
    return {
        Group.tensor: at(tensor, d, p),
        Group.data: at(t, data, p),
        Group.pipeline: at(t, d, stages),
        Group.embedding: at(t, d, (0, layout.logits_stage)),
        Group.model: at(tensor, d, stages),
        Group.tensor_data: at(tensor, data, p),
        Group.world: at(tensor, data, stages),
    }


def extents(layout: Layout, stage: int) -> dict[Group, tuple[int, int, frozenset[int]]]:
    """The same groups of a rank of `stage`, told apart without listing ranks: how many tensor and
    data ranks, and which stages."""
    t, d, here = layout.tensor, layout.data, frozenset({stage})
    stages = frozenset(range(layout.pipeline))
    return {
        Group.tensor: (t, 1, here),
        Group.data: (1, d, here),
        Group.pipeline: (1, 1, stages),
        Group.embedding: (1, 1, frozenset({0, layout.logits_stage})),
        Group.model: (t, 1, stages),
        Group.tensor_data: (t, d, here),
        Group.world: (t, d, stages),
    }


class Ledger:
    """Collects the traffic of the first rank of one stage."""

    def __init__(self, layout: Layout, stage: int) -> None:
        self._extents = extents(layout, stage)
        self._entries: list[Traffic] = []

    def add(self, group: Group, kind: Kind, each: int, count: int = 1) -> None:
        """`count` collectives of `each` bytes; none if the group has but one rank."""
        extent = self._extents[group]
        tensor, data, stages = extent
        if tensor * data * len(stages) > 1 and count:
            name = next(other for other, those in self._extents.items() if those == extent)
            self._entries.append(Traffic(group=name, kind=kind, count=count, bytes=count * each))

    def exchange(self, each: int, sends: int, receives: int) -> None:
        """Messages with other stages of the same model."""
        for kind, count in ((Kind.send, sends), (Kind.recv, receives)):
            if count:
                self._entries.append(
                    Traffic(group=Group.pipeline, kind=kind, count=count, bytes=count * each)
                )

    def traffic(self) -> list[Traffic]:
        return totals(self._entries)
