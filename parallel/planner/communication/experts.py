"""What a layer with experts sends to bring tokens to them, by formula. Imports no torch.

The formulas are those of Megatron-core 0.16.1's token dispatchers (transformer/moe) and of
`models.training.router`. How many rows a rank receives depends on its tokens; here every rank
receives its even share, so that what all ranks of a group send together is exact. Under
`model.moe.capacity` fewer rows may be sent.
"""

from __future__ import annotations

from typing import NamedTuple

from configs.schema import ExpertBy
from configs.settings.network import Balance
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.communication.traffic import CollectiveKind, Group

_FLOAT = 4  # bytes: the router computes in float32
_COUNT = 8  # bytes of a number of tokens
_DOUBLE = 8


class Sent(NamedTuple):
    """One collective; bytes as `Traffic` counts them."""

    group: Group
    kind: CollectiveKind
    bytes: int


class ExpertMessages(NamedTuple):
    """Those of one micro-batch in a layer with experts."""

    forward: list[Sent]
    backward: list[Sent]


def routed_tokens(shape: ModelShape, layout: Layout) -> int:
    """Of a micro-batch, the tokens that one rank routes."""
    tokens = shape.context * layout.micro_batch // layout.context
    return tokens // (layout.tensor if layout.sequence_parallel else 1)


def routed_rows(shape: ModelShape, layout: Layout) -> int:
    """Rows that one rank sends to experts: a token for each of its experts that takes it."""
    sent = routed_tokens(shape, layout) * shape.moe.top_k
    capacity = shape.moe.capacity
    return sent if capacity is None else min(sent, int(sent * capacity))


def expert_messages(shape: ModelShape, layout: Layout, number: int) -> ExpertMessages:
    """Those that bring tokens to their experts and back.

    Args:
        number: bytes of a number of the activations.
    """
    if layout.expert_by is ExpertBy.all_gather:
        return _gathered(shape, layout, number)
    return _sent(shape, layout, number)


def _sent(shape: ModelShape, layout: Layout, number: int) -> ExpertMessages:
    """Each row goes to its expert's rank, and is gathered by the ranks that share the expert."""
    ranks, sharing = layout.expert * layout.expert_tensor, layout.expert_tensor
    rows = routed_rows(shape, layout)
    hidden, weights = rows * shape.hidden, rows * _FLOAT
    counts = _gather(Group.tensor_expert, ranks * shape.moe.experts * _COUNT)
    away, back = _all_to_all(hidden * number), _all_to_all(weights)
    forward, backward = [counts, away, back], [away]
    if sharing > 1:
        # Outputs are added up in the router's precision.
        summed = sharing * hidden * _FLOAT
        shared = [sharing * hidden * number, sharing * weights]
        forward += [_gather(Group.expert_tensor, size) for size in shared]
        forward.append(_scatter(Group.expert_tensor, summed))
        backward.append(_gather(Group.expert_tensor, summed))
        backward += [_scatter(Group.expert_tensor, size) for size in shared]
    return ExpertMessages([*forward, away], [*backward, away, back])


def _gathered(shape: ModelShape, layout: Layout, number: int) -> ExpertMessages:
    """Every rank gets all tokens with their choices and weights, and all add up their outputs."""
    tokens = layout.expert * layout.expert_tensor * routed_tokens(shape, layout)
    chosen, weights = tokens * shape.moe.experts, tokens * shape.moe.experts * _FLOAT
    hidden, summed = tokens * shape.hidden * number, tokens * shape.hidden * _FLOAT
    group = Group.tensor_expert
    return ExpertMessages(
        [
            *(_gather(group, size) for size in (chosen, weights, hidden)),
            _scatter(group, summed),
        ],
        [_gather(group, summed), *(_scatter(group, size) for size in (weights, hidden))],
    )


def capacity_messages(shape: ModelShape, layout: Layout) -> list[Sent]:
    """What an expert's capacity needs to know of all tokens of a sequence, in every forward pass:
    the weights of their choices, and which these are.
    """
    if shape.moe.capacity is None:
        return []
    choices = shape.context * layout.micro_batch * shape.moe.top_k
    group = _of_sequence(layout)
    return [_gather(group, choices * _FLOAT), _gather(group, choices * _COUNT)]


def load_messages(shape: ModelShape, layout: Layout) -> list[Sent]:
    """What an auxiliary loss by sequence needs to know of it: the load of each expert.

    Not of passes whose activations are dropped.
    """
    if shape.moe.balance is not Balance.sequence:
        return []
    loads = layout.micro_batch * shape.moe.experts * _FLOAT
    return [Sent(_of_sequence(layout), CollectiveKind.all_reduce, loads)]


def _of_sequence(layout: Layout) -> Group:
    """The ranks that route tokens of one sequence."""
    return Group.tensor_context if layout.sequence_parallel else Group.context


def statistics_bytes(shape: ModelShape) -> int:
    """Of what all ranks add up once a step, in float64: of each layer the loads and four sums."""
    return len(shape.expert_layers) * (shape.moe.experts + 4) * _DOUBLE


def _all_to_all(size: int) -> Sent:
    return Sent(Group.expert, CollectiveKind.all_to_all, size)


def _gather(group: Group, size: int) -> Sent:
    return Sent(group, CollectiveKind.all_gather, size)


def _scatter(group: Group, size: int) -> Sent:
    return Sent(group, CollectiveKind.reduce_scatter, size)
