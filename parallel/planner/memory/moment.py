"""An engine's memory besides weights and activations at a moment when it may peak."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Bytes at one moment of a step.

    Attributes:
        kept: the fraction of the kept activations that still exists.
        logits: the fraction of the logits and their softmax that exists.
    """

    gradients: float = 0
    buffers: float = 0
    kept: float = 1
    logits: float = 1
