"""What Muon sends to put matrices together, by formula, in either engine. Imports no torch."""

from __future__ import annotations

from parallel.planner.communication.groups import Ledger
from parallel.planner.communication.stage_step import FLOAT, Step
from parallel.planner.communication.traffic import CollectiveKind, Group


def muon_traffic(step: Step, ledger: Ledger) -> None:
    """Of the first data rank, which is dealt as many layers as any other.

    Approximate in one respect: ZeRO 3 deals out anew what it updates at once, which is not all
    layers if they are of more than a billion elements per data rank.
    """
    layout = step.layout
    dealt = -(-step.layers // layout.copies)
    for matrix in (each for each in step.shape.layer(0) if each.is_matrix):
        shard = FLOAT * matrix.numbers_on_rank(layout.tensor)
        if layout.zero:
            ledger.add(Group.data_context, CollectiveKind.all_reduce, shard, step.layers)
        ledger.add(Group.data_context, CollectiveKind.broadcast, shard, step.layers)
        for kind in (CollectiveKind.all_gather, CollectiveKind.broadcast):
            ledger.add(Group.tensor, kind, FLOAT * matrix.numbers, dealt)
