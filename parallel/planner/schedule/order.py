"""The order in which each stage of a pipeline runs its micro-batches forward and backward.

Megatron-core's and DeepSpeed's schedules, as plain lists. Imports no torch.
"""

from __future__ import annotations

from typing import NamedTuple

from parallel.layout import Layout


class Op(NamedTuple):
    """One pass of one micro-batch through one chunk of a stage."""

    chunk: int
    micro_batch: int
    forward: bool


def orders(layout: Layout, micro_batches: int) -> list[list[Op]]:
    """The operations of each stage in order."""
    if layout.dualpipev:
        return [_dualpipev(layout.pipeline, s, micro_batches) for s in range(layout.pipeline)]
    if layout.interleave > 1:
        return [
            _interleaved(layout.pipeline, s, micro_batches, layout.interleave)
            for s in range(layout.pipeline)
        ]
    return [
        _one_forward_one_backward(layout.pipeline, s, micro_batches) for s in range(layout.pipeline)
    ]


def _one_forward_one_backward(stages: int, stage: int, micro_batches: int) -> list[Op]:
    """Narayanan et al. 2021, figure 3; DeepSpeed's TrainSchedule has the same order."""
    warm_up = min(stages - stage - 1, micro_batches)
    ops = [Op(0, m, True) for m in range(warm_up)]
    for m in range(micro_batches - warm_up):
        ops += [Op(0, warm_up + m, True), Op(0, m, False)]
    return ops + [Op(0, m, False) for m in range(micro_batches - warm_up, micro_batches)]


def _interleaved(stages: int, stage: int, micro_batches: int, chunks: int) -> list[Op]:
    """Narayanan et al. 2021, figure 4: micro-batches go through a chunk `stages` at a time."""
    total = micro_batches * chunks

    def op(number: int, *, forward: bool) -> Op:
        group, within = divmod(number, stages * chunks)
        chunk = within // stages
        micro_batch = group * stages + within % stages
        return Op(chunk if forward else chunks - 1 - chunk, micro_batch, forward)

    warm_up = min((stages - stage - 1) * 2 + (chunks - 1) * stages, total)
    ops = [op(number, forward=True) for number in range(warm_up)]
    for number in range(total - warm_up):
        ops += [op(warm_up + number, forward=True), op(number, forward=False)]
    return ops + [op(number, forward=False) for number in range(total - warm_up, total)]


def _dualpipev(stages: int, stage: int, micro_batches: int) -> list[Op]:
    """DeepSpeed's DualPipeVSchedule: two chunks per stage, from both ends of the model."""
    counters = {(chunk, forward): 0 for chunk in (0, 1) for forward in (True, False)}
    ops: list[Op] = []

    def run(*passes: tuple[int, bool]) -> None:
        for chunk, forward in passes:
            ops.append(Op(chunk, counters[chunk, forward], forward))
            counters[chunk, forward] += 1

    later = stages - stage - 1
    f0, f1, b0, b1 = (0, True), (1, True), (0, False), (1, False)
    for _ in range(2 * later):
        run(f0)
    for _ in range(stage + 1):
        run(f0, f1)
    for _ in range(later):
        run(b1, f1)
    for _ in range(micro_batches - 2 * stages + stage + 1):
        run(f0, b1, f1, b0)
    for _ in range(later):
        run(b1, f1, b0)
    for _ in range(stage + 1):
        run(b1, b0)
    for _ in range(later):
        run(b0)
    return ops
