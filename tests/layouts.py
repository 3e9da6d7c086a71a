"""The layouts that both engines must train alike under, and the dry run must be right about."""

from __future__ import annotations

from dataclasses import replace

from configs.schema import ContextBy, Recompute, Schedule
from parallel.layout import Layout
from tests import training

SPLITS = [
    Layout(),
    Layout(tensor=2),
    Layout(tensor=4),
    Layout(pipeline=2),
    Layout(pipeline=4),
    Layout(tensor=2, pipeline=2),
    Layout(pipeline=2, interleave=2),
    Layout(data=2),
    Layout(tensor=2, data=2),
    Layout(pipeline=2, data=2),
    Layout(tensor=2, pipeline=2, data=2),
]


def variants() -> list[Layout]:
    """Each split at two micro-batch sizes; sequence parallel and ZeRO-1 where they apply."""
    found = []
    for split in SPLITS:
        # Enough micro-batches to fill a pipeline; without one, the fewer the quicker.
        small, large = (
            replace(split, micro_batch=training.GLOBAL_BATCH // (split.data * micro_batches))
            for micro_batches in ((4, 2) if split.pipeline > 1 else (2, 1))
        )
        found += [small, large]
        if split.tensor > 1:
            found.append(replace(small, sequence_parallel=True))
        if split.data > 1:
            found.append(replace(large, zero=1))
        if split.tensor > 1 and split.data > 1:
            found.append(replace(large, sequence_parallel=True, zero=1))
    return found


RING, GATHER, EXCHANGE = ContextBy.ring, ContextBy.gather, ContextBy.exchange
CONTEXT = [
    *(Layout(context=2, context_by=by, micro_batch=4) for by in ContextBy),
    *(Layout(context=4, context_by=by, micro_batch=4) for by in (RING, EXCHANGE)),
    Layout(context=4, context_by=GATHER, zero=1, micro_batch=4),
    Layout(tensor=2, context=2, context_by=RING, micro_batch=4, sequence_parallel=True),
    Layout(context=2, context_by=RING, pipeline=2, micro_batch=2),
    Layout(context=2, context_by=EXCHANGE, data=2, micro_batch=2),
    Layout(context=2, context_by=RING, data=2, zero=1, micro_batch=2),
    Layout(
        tensor=2, context=2, context_by=GATHER, pipeline=2, sequence_parallel=True, micro_batch=2
    ),
    Layout(context=2, context_by=GATHER, micro_batch=4, recompute=Recompute.full),
    Layout(context=2, context_by=RING, micro_batch=4, recompute=Recompute.selective),
]
"""Sequences split over ranks: every way, with every axis."""

MEGATRON = [
    *variants(),
    *CONTEXT,
    Layout(pipeline=2, stage_layers=(3, 1), micro_batch=2),
    Layout(tensor=2, pipeline=2, data=2, zero=1, stage_layers=(1, 3), micro_batch=1),
]
MEGATRON_RECOMPUTE = [
    Layout(micro_batch=4, recompute=Recompute.selective),
    Layout(micro_batch=4, recompute=Recompute.full),
    Layout(micro_batch=4, tensor=2, sequence_parallel=True, recompute=Recompute.full),
    Layout(micro_batch=4, pipeline=2, interleave=2, recompute=Recompute.selective),
]
MEGATRON_HALF = [
    Layout(micro_batch=4),
    Layout(micro_batch=2, tensor=2, data=2, zero=1, sequence_parallel=True),
]
DEEPSPEED = [
    Layout(micro_batch=4),
    Layout(tensor=2, micro_batch=4),
    Layout(tensor=2, micro_batch=4, sequence_parallel=True),
    Layout(pipeline=2, micro_batch=2),
    Layout(pipeline=4, micro_batch=2),
    Layout(tensor=2, pipeline=2, micro_batch=2),
    Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True),
    *(Layout(data=2, micro_batch=2, zero=zero) for zero in (0, 1, 2, 3)),
    Layout(tensor=2, data=2, micro_batch=2, zero=2),
    Layout(tensor=2, data=2, micro_batch=2, zero=3, sequence_parallel=True),
    Layout(pipeline=2, data=2, micro_batch=1, zero=1),
    Layout(tensor=2, pipeline=2, data=2, micro_batch=1, zero=1, sequence_parallel=True),
    *(Layout(context=2, context_by=RING, micro_batch=4, zero=zero) for zero in (0, 2, 3)),
    Layout(context=4, context_by=EXCHANGE, micro_batch=4),
    Layout(tensor=2, context=2, context_by=GATHER, micro_batch=4, sequence_parallel=True),
    Layout(context=2, context_by=RING, pipeline=2, micro_batch=2),
    Layout(context=2, context_by=GATHER, data=2, pipeline=2, micro_batch=2, zero=1),
    Layout(pipeline=2, micro_batch=2, schedule=Schedule.dualpipev),
    Layout(tensor=2, pipeline=2, micro_batch=2, schedule=Schedule.dualpipev),
    Layout(pipeline=2, data=2, micro_batch=1, zero=1, schedule=Schedule.dualpipev),
]
DEEPSPEED_RECOMPUTE = [
    Layout(micro_batch=4, data=2, zero=3, recompute=Recompute.full),
    Layout(
        micro_batch=2,
        tensor=2,
        pipeline=2,
        sequence_parallel=True,
        recompute=Recompute.full,
    ),
    Layout(micro_batch=2, pipeline=2, recompute=Recompute.selective),
]
DEEPSPEED_HALF = [
    Layout(micro_batch=4),
    Layout(micro_batch=2, data=2, zero=1),
    Layout(micro_batch=2, data=2, zero=2),
    Layout(micro_batch=2, data=2, zero=3),
    Layout(micro_batch=2, tensor=2, pipeline=2, sequence_parallel=True),
    Layout(micro_batch=2, pipeline=2, schedule=Schedule.dualpipev),
]


def name(layout: Layout) -> str:
    marks = [str(layout), f"mb{layout.micro_batch}"]
    marks += ["+".join(map(str, layout.stage_layers))] if layout.stage_layers else []
    marks += [layout.context_by] if layout.context_by else []
    marks += ["sp"] if layout.sequence_parallel else []
    marks += [f"zero{layout.zero}"] if layout.zero else []
    marks += [layout.schedule] if layout.dualpipev else []
    marks += [layout.recompute] if layout.recompute != Recompute.none else []
    return "-".join(marks)
