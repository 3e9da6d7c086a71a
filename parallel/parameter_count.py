"""How much of a model each rank holds: shape and Layout together. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from models.layer_table import Cut, Parameter
from models.shape import ModelShape
from parallel.layout import Layout


@dataclass(frozen=True, slots=True)
class Numbers:
    """Elements of a rank, or bytes of them, by the ranks that hold the same.

    Gradients are summed over these ranks, and ZeRO shards states over them.

    Attributes:
        shared: of all but routed experts, which `layout.copies` ranks hold.
        experts: of routed experts, which `layout.expert_copies` ranks hold.
    """

    shared: int
    experts: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.shared + self.experts

    def times(self, each: int) -> Numbers:
        """`each` for every one of them."""
        return Numbers(each * self.shared, each * self.experts)

    def minus(self, other: Numbers) -> Numbers:
        """The difference, of either."""
        return Numbers(self.shared - other.shared, self.experts - other.experts)

    def shard(self, layout: Layout) -> float:
        """One rank's, where those that hold the same share them out."""
        return self.shared / layout.copies + self.experts / layout.expert_copies


def ends_held(
    shape: ModelShape, *, first: bool, last: bool
) -> tuple[list[Parameter], list[Parameter]]:
    """What a stage or chunk holds before its layers and after them.

    The last one that is not also the first holds a copy of a tied embedding, at its very end.
    """
    before = [*shape.embedding] if first else []
    after = [*shape.final_norm, *shape.output] if last else []
    if shape.tied and last and not first:
        after.append(shape.embedding[0])
    return before, after


def rank_numbers(shape: ModelShape, layout: Layout, stage: int) -> Numbers:
    """What one rank of a stage holds, including padding and the last stage's copy."""
    held = layout.layers_on(stage, shape.layers)
    routed = sum(layers_with_experts(shape, held))
    plain = sum(map(len, held)) - routed
    ends = _ends(shape, layout.tensor, stage == 0, stage == layout.logits_stage)
    each, without = _layer(shape, layout.cut, True), _layer(shape, layout.cut, False)
    shared = plain * without.shared + routed * each.shared + ends
    return Numbers(shared, routed * each.experts)


def layers_with_experts(shape: ModelShape, held: Iterable[range]) -> list[int]:
    """Of each chunk's layers, how many have experts."""
    if not shape.moe.experts:
        return [0 for _ in held]
    dense = shape.moe.dense_layers
    return [max(0, layers.stop - max(layers.start, dense)) for layers in held]


# A search of layouts asks these for each stage of each of thousands.


@cache
def _layer(shape: ModelShape, cut: Cut, experts: bool) -> Numbers:
    """Of one layer, of those with experts or of those without."""
    layer = shape.layers - 1 if experts else 0
    routed = shape.experts_on_rank([layer], cut)
    return Numbers(shape.layers_on_rank([layer], cut) - routed, routed)


@cache
def _ends(shape: ModelShape, tensor: int, first: bool, last: bool) -> int:
    before, after = ends_held(shape, first=first, last=last)
    return sum(each.numbers_on_rank(tensor) for each in (*before, *after))


def rank_parameters(shape: ModelShape, layout: Layout, stage: int) -> int:
    """Elements that one rank of a stage holds, including padding and the last stage's copy."""
    return rank_numbers(shape, layout, stage).total
