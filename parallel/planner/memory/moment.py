"""What an engine keeps besides weights and activations at a moment when memory may peak."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Bytes at one moment of a step.

    Attributes:
        kept: the part of the kept activations that is still there.
        logits: the part of the logits and their softmax that is.
    """

    gradients: float = 0
    buffers: float = 0
    kept: float = 1
    logits: float = 1
