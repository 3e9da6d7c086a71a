"""How much of a model each rank holds: shape and Layout together. Imports no torch."""

from __future__ import annotations

from models.shape import ModelShape
from parallel.layout import Layout


def rank_parameters(shape: ModelShape, layout: Layout, stage: int) -> int:
    """Elements that one rank of a stage holds, including padding and the last stage's copy."""
    held = sum(len(layers) for layers in layout.layers_on(stage, shape.layers))
    first, last = stage == 0, stage == layout.logits_stage
    tokens, positions = shape.padded_embedding
    ends = [tokens] * (first or last) + [positions] * first + [*shape.final_norm] * last
    in_layers = held * shape.layer_on_rank(layout.tensor)
    return in_layers + sum(each.numbers_on_rank(layout.tensor) for each in ends)
