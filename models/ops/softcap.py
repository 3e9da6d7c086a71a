"""Logits bounded by a tanh (Gemma Team 2024)."""

from __future__ import annotations

from torch import Tensor


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """cap tanh(logits / cap); the logits themselves without a cap."""
    return logits if cap is None else (logits / cap).tanh() * cap
