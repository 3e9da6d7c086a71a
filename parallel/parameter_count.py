"""How much of a model each rank holds: shape and Layout together. Imports no torch."""

from __future__ import annotations

from models.shape import ModelShape
from parallel.layout import Layout


def rank_parameters(shape: ModelShape, layout: Layout, stage: int) -> int:
    """Numbers that one rank of a stage holds, padding and the last stage's copy included.

    Weights and most biases are split over the tensor ranks; norms, positions and the biases added
    after a row-parallel matmul are on every one.
    """
    h, t = shape.hidden, layout.tensor
    split = 12 * h * h + 7 * h  # weights, biases of qkv (3h) and of the MLP's first linear (4h)
    whole = 6 * h  # two norms, two biases
    held = sum(len(layers) for layers in layout.layers_on(stage, shape.layers))
    count = held * (split // t + whole)
    first, last = stage == 0, stage == layout.logits_stage
    if first:
        count += shape.context * h
    if first or last:
        count += shape.padded_vocab // t * h
    return count + (shape.final_norm_parameters if last else 0)
