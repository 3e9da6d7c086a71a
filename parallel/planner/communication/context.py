"""What ranks that share a sequence send each other in a layer, by formula. Imports no torch.

The formulas are those of `models.training.context`: gathered keys and values are gathered again in
the backward pass, and their gradients scattered; on a ring both passes send keys and values on, and
the backward pass their gradients too, in float32, once more than that; an exchange of heads is one
of queries, keys and values, and one of outputs; a banded layer exchanges the tokens in a window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from configs.schema import ContextBy
from models.context_slices import halo
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.communication.traffic import CollectiveKind

_FLOAT = 4  # bytes of a number of the gradients that go round


@dataclass(frozen=True, slots=True)
class Message:
    """Some collectives of one kind; bytes are those of each."""

    kind: CollectiveKind
    bytes: int
    count: int


class LayerMessages(NamedTuple):
    """Those of one micro-batch in a layer's attention."""

    forward: list[Message]
    backward: list[Message]

    @property
    def hidden(self) -> bool:
        """Whether a rank computes meanwhile."""
        return bool(self.forward) and self.forward[0].kind is CollectiveKind.send


def layer_messages(
    shape: ModelShape, layout: Layout, number: int, *, banded: bool, rank: int = 0
) -> LayerMessages:
    """Within a context group; none without one.

    Args:
        number: bytes of a number of the activations.
        rank: the context rank, of which the tokens in a window depend.
    """
    ranks, way = layout.context, layout.context_by or ContextBy.gather
    if ranks == 1:
        return LayerMessages([], [])
    token = layout.micro_batch * shape.head_width * number // layout.tensor  # of one head
    keys = 2 * token * shape.query_groups
    if banded and shape.window < shape.context:
        parts = halo(ranks, shape.context, shape.window)
        sent = keys * sum(len(part.tokens) for part in parts if part.source == rank)
        received = keys * sum(len(part.tokens) for part in parts if part.target == rank)
        return LayerMessages([_all_to_all(sent)], [_all_to_all(received)])
    tokens = shape.context // ranks
    keys *= tokens
    if way is ContextBy.exchange:
        outputs = _all_to_all(tokens * token * shape.heads)
        inputs = _all_to_all(outputs.bytes + keys)
        return LayerMessages([inputs, outputs], [outputs, inputs])
    if way is ContextBy.gather:
        gather = Message(CollectiveKind.all_gather, ranks * keys, 1)
        return LayerMessages(
            [gather], [gather, replace(gather, kind=CollectiveKind.reduce_scatter)]
        )
    on = _passed(keys, ranks - 1)
    return LayerMessages(on, on + _passed(keys // number * _FLOAT, ranks))


def _all_to_all(size: int) -> Message:
    return Message(CollectiveKind.all_to_all, size, 1)


def _passed(size: int, count: int) -> list[Message]:
    return [Message(kind, size, count) for kind in (CollectiveKind.send, CollectiveKind.recv)]
