"""How much of a model each rank holds: shape and Layout together. Imports no torch."""

from __future__ import annotations

from models.layer_table import Parameter
from models.shape import ModelShape
from parallel.layout import Layout


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


def rank_parameters(shape: ModelShape, layout: Layout, stage: int) -> int:
    """Elements that one rank of a stage holds, including padding and the last stage's copy."""
    held = [layer for layers in layout.layers_on(stage, shape.layers) for layer in layers]
    before, after = ends_held(shape, first=stage == 0, last=stage == layout.logits_stage)
    in_layers = shape.layers_on_rank(held, layout.cut)
    return in_layers + sum(each.numbers_on_rank(layout.tensor) for each in (*before, *after))
