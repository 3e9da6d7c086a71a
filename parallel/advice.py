"""What a user should know of settings that work: lines that refuse nothing."""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import Precision, Recompute, Run
from configs.settings.cuda import Fp8Scaling
from parallel.layout import Layout


def advice(run: Run, layout: Layout) -> list[str]:
    """A line for each setting that costs more than it gives, or that a dry run does not know."""
    return [*_selective_recompute(layout), *_bf16_gradients(run, layout), *_fp8(run)]


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


def _fp8(run: Run) -> Iterator[str]:
    """Nobody has measured it yet."""
    if run.precision is Precision.fp8 and run.cuda.fp8_scaling is Fp8Scaling.delayed:
        yield (
            "cuda.fp8_scaling=delayed: its scales are in no checkpoint, so each start finds them "
            "again over its first steps; nearest: cuda.fp8_scaling=current"
        )
    if run.precision is Precision.fp8:
        yield (
            "precision=fp8: a dry run counts the memory of bf16, without the copies of weights in "
            "FP8 that Transformer Engine keeps"
        )
