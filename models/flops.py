"""Floating-point operations of a decoder, counted matmul by matmul.

A multiply-add is two operations. The backward pass costs twice the forward pass. Recomputed
activations are not counted: these are the model's operations, not the hardware's.
"""

from __future__ import annotations

from models.shape import ModelShape

BACKWARD_AND_FORWARD = 3


def attended_pairs(length: int, window: int | None) -> int:
    """Query-key pairs of a causal layer over `length` tokens; `window` of None sees all."""
    if window is None or window >= length:
        return length * (length + 1) // 2
    return window * (window + 1) // 2 + (length - window) * window


def forward_flops_per_sample(shape: ModelShape) -> int:
    """Operations of one forward pass over one full context, causal and banded masks counted."""
    tokens = shape.context
    weights = shape.multiplications(range(shape.layers))
    projections = 2 * weights * tokens
    attention = sum(
        4 * shape.query * attended_pairs(tokens, shape.window if shape.is_banded(layer) else None)
        for layer in range(shape.layers)
    )
    logits = 2 * shape.hidden * shape.vocab * tokens
    return projections + attention + logits


def step_flops(shape: ModelShape, samples: int) -> int:
    """FLOPs of one optimizer step over `samples` full contexts, forward and backward."""
    return BACKWARD_AND_FORWARD * forward_flops_per_sample(shape) * samples


def paper_training_flops(shape: ModelShape, tokens: int) -> int:
    """6 N D, the paper's Table D.1: attention ignored, N with embeddings, of experts those that a
    token is sent to.
    """
    return 6 * shape.active_parameters * tokens
