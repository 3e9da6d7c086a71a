"""Communication per step, as reported by the analytic plan, the trace and real runs.

Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from parallel.layout import AXES, Layout


class Group(StrEnum):
    """The ranks that communicate. A group that matches two of these uses the first."""

    tensor = "tensor"
    context = "context"
    data = "data"
    data_context = "data_context"  # data x context: all that hold the same parameters
    pipeline = "pipeline"
    embedding = "embedding"  # the stages that hold the tied embedding
    model = "model"  # tensor x pipeline: one copy of the model
    tensor_data = "tensor_data"  # tensor x data: one stage
    world = "world"
    tensor_context = "tensor_context"  # tensor x context: the ranks of one sequence
    expert = "expert"  # the ranks that a layer's experts are dealt out to
    expert_tensor = "expert_tensor"  # those that share an expert
    tensor_expert = "tensor_expert"  # expert tensor x expert: one copy of a layer's experts
    expert_data = "expert_data"  # all that hold the same experts
    expert_model = "expert_model"  # expert tensor x expert x pipeline: one copy of all experts


SPANS: dict[Group, tuple[str, ...]] = {
    Group.tensor: ("tensor",),
    Group.context: ("context",),
    Group.data: ("data",),
    Group.data_context: ("context", "data"),
    Group.pipeline: ("pipeline",),
    Group.embedding: (),  # the two stages that hold it, one rank of each
    Group.model: ("tensor", "pipeline"),
    Group.tensor_data: ("tensor", "data"),
    Group.world: AXES,
    Group.tensor_context: ("tensor", "context"),
}
"""The axes along which the ranks of a group differ."""
EXPERT_SPANS: dict[Group, tuple[str, ...]] = {
    Group.expert: ("expert",),
    Group.expert_tensor: ("expert_tensor",),
    Group.tensor_expert: ("expert_tensor", "expert"),
    Group.expert_data: ("expert_data",),
    Group.expert_model: ("expert_tensor", "expert", "pipeline"),
}
"""The same for groups of the experts' axes, which divide the ranks of a stage anew."""


def steps_to_settle(layout: Layout) -> int:
    """Steps of a start, the first ones, whose traffic is not that of all others.

    Stages tell each other the shapes of what they send. ZeRO 3 records the order of the layers in
    the first step, and verifies it in the second.
    """
    return 2 if layout.zero == 3 else 1


class CollectiveKind(StrEnum):
    """Kinds of collectives; a reduce counts as an all-reduce, a gather as an all-gather."""

    all_reduce = "all_reduce"
    all_gather = "all_gather"
    reduce_scatter = "reduce_scatter"
    broadcast = "broadcast"
    all_to_all = "all_to_all"
    barrier = "barrier"
    send = "send"
    recv = "recv"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Traffic:
    """All collectives of one kind in one group that one rank takes part in during one step.

    `bytes` counts full tensors, as nccl-tests do: what is reduced or sent, the output of a gather,
    the input of a scatter. Groups of a single rank have no traffic.
    """

    group: Group
    kind: CollectiveKind
    count: int
    bytes: int


def totals(traffic: Iterable[Traffic]) -> list[Traffic]:
    """One entry per group and kind, in a fixed order; without empty ones."""
    counts: Counter[tuple[Group, CollectiveKind]] = Counter()
    sizes: Counter[tuple[Group, CollectiveKind]] = Counter()
    for each in traffic:
        counts[each.group, each.kind] += each.count
        sizes[each.group, each.kind] += each.bytes
    return [
        Traffic(group=group, kind=kind, count=counts[group, kind], bytes=sizes[group, kind])
        for group in Group
        for kind in CollectiveKind
        if counts[group, kind]
    ]
