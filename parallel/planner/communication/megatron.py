"""The Megatron engine's traffic beyond its layers', by formula. Imports no torch."""

from __future__ import annotations

import math

from configs.schema import DeviceName, Precision
from models.layer_table import Parameter
from parallel.parameter_count import ends_held
from parallel.planner.communication.groups import Ledger
from parallel.planner.communication.stage_step import DOUBLE, FLOAT, Step
from parallel.planner.communication.traffic import CollectiveKind, Group


def megatron_traffic(step: Step, ledger: Ledger) -> None:
    """Adds messages between stages, and the reductions of gradients, their norm and the loss."""
    layout = step.layout
    if layout.pipeline > 1:
        _messages(step, ledger)
        if step.shape.tied and (step.first or step.last):
            ledger.add(Group.embedding, CollectiveKind.all_reduce, step.embedding * step.gradient)
    partial = sum(step.own_tokens_parameters)
    if partial:
        ledger.add(Group.tensor, CollectiveKind.all_reduce, partial * step.gradient)
    _gradients(step, ledger)
    # Only all ranks together hold every slice of the gradients.
    over = Group.world if layout.zero == 1 else Group.model
    ledger.add(
        over, CollectiveKind.all_reduce, FLOAT, (step.precision is Precision.fp16) + step.clips
    )
    ledger.add(Group.world, CollectiveKind.all_reduce, DOUBLE)  # the loss


def _messages(step: Step, ledger: Ledger) -> None:
    """Each chunk but the model's last sends forward, each but its first back."""
    ahead = step.layout.interleave - step.last
    back = step.layout.interleave - step.first
    count = step.micro_batches * (ahead + back)
    ledger.exchange(step.message, count, count)


def _gradients(step: Step, ledger: Ledger) -> None:
    """Sums over the data ranks, a bucket at a time; under ZeRO-1 each keeps and updates a slice."""
    for number in range(step.layout.interleave):
        for bucket in _buckets(step, number):
            if step.layout.zero == 1:
                ledger.add(
                    Group.data_context, CollectiveKind.reduce_scatter, bucket * step.gradient
                )
                ledger.add(Group.data_context, CollectiveKind.all_gather, bucket * step.number)
            else:
                ledger.add(Group.data_context, CollectiveKind.all_reduce, bucket * step.gradient)


def _buckets(step: Step, chunk: int) -> list[int]:
    """Elements of each bucket of one chunk, including padding, as in Megatron's DDP."""
    layout, sharded = step.layout, step.layout.zero == 1
    # Only the first chunk of the first stage reduces while others still compute.
    in_pieces = step.device is DeviceName.cuda and step.first and chunk == 0
    usual = max(40_000_000, 1_000_000 * layout.data)
    full = (step.features.bucket_size or usual) if in_pieces else None
    buckets, start, end = [], 0, 0

    def close() -> None:
        nonlocal start, end
        if sharded:
            end = _rounded_up(end, math.lcm(layout.copies, 128))
        buckets.append(end - start)
        start = end

    for size, shared in reversed(_parameters(step, chunk)):
        if sharded:
            end = _rounded_up(end, 64)
        # So that both stages cut the tied embedding into the same slices.
        alone = shared and sharded
        if alone and end > start:
            close()
        end += size
        if alone or (full is not None and end - start >= full):
            close()
    if end > start:
        close()
    return buckets


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _parameters(step: Step, chunk: int) -> list[tuple[int, bool]]:
    """Of one chunk in order: numbers, and whether another stage holds it too."""
    shape, layout = step.shape, step.layout
    held = layout.layers_of(step.stage, chunk, shape.layers)
    before, after = ends_held(shape, first=held.start == 0, last=held.stop == shape.layers)
    tied = shape.tied and layout.pipeline > 1

    def numbers(parameter: Parameter) -> tuple[int, bool]:
        return parameter.numbers_on_rank(layout.tensor), tied and parameter.padded

    layers = (numbers(each) for number in held for each in shape.layer(number))
    return [*map(numbers, before), *layers, *map(numbers, after)]
