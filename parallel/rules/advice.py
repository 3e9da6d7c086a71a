"""What works and yet is better left alone: lines for the user, which refuse nothing."""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import Recompute, Run
from parallel.layout import Layout


def advice(run: Run, layout: Layout) -> list[str]:
    """A line for each setting of a valid run that costs more than it gives."""
    return [*_selective_recompute(layout), *_bf16_gradients(run, layout)]


def _selective_recompute(layout: Layout) -> Iterator[str]:
    """It frees the scores of attention, and every attention here is fused: none are kept."""
    if layout.recompute is Recompute.selective:
        yield (
            "layout.recompute=selective: attention keeps no scores that it could free, and is "
            "computed once more; nearest: layout.recompute=none, or full, which frees memory"
        )


def _bf16_gradients(run: Run, layout: Layout) -> Iterator[str]:
    """They are meant to take less memory."""
    if run.cuda.bf16_gradients and layout.zero == 0:
        yield (
            "cuda.bf16_gradients=true: with zero=0 the update copies all gradients to float32, so "
            "memory grows; nearest: layout.zero=1"
        )
