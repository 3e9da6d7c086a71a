"""The Megatron engine's traffic beyond its layers', by formula. Imports no torch."""

from __future__ import annotations

import math

from configs.schema import DeviceName, Precision
from models.layer_table import Parameter, layer_held
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
    _norms(step, ledger)
    ledger.add(Group.world, CollectiveKind.all_reduce, DOUBLE)  # the loss


def _norms(step: Step, ledger: Ledger) -> None:
    """Of the gradients, and in fp16 whether they overflow, which models with experts do not have.

    Routed experts have an optimizer of their own, whose norm is another unless both are over all
    ranks: only these together hold every slice of the gradients.
    """
    sharded = step.layout.zero == 1
    over = Group.world if sharded else Group.model
    count = (step.precision is Precision.fp16) + step.clips
    ledger.add(over, CollectiveKind.all_reduce, FLOAT, count)
    if step.shape.expert_layers and not sharded:
        ledger.add(Group.expert_model, CollectiveKind.all_reduce, FLOAT, int(step.clips))


def _messages(step: Step, ledger: Ledger) -> None:
    """Each chunk but the model's last sends forward, each but its first back."""
    ahead = step.layout.interleave - step.last
    back = step.layout.interleave - step.first
    count = step.micro_batches * (ahead + back)
    ledger.exchange(step.message, count, count)


def _gradients(step: Step, ledger: Ledger) -> None:
    """Sums over the data ranks, a bucket at a time; under ZeRO-1 each keeps and updates a slice.

    Unless gathers overlap with the next step, each of two optimizers gathers all parameters.
    """
    layout = step.layout
    gathers = 2 if step.shape.expert_layers and not _overlaps(step) else 1
    for number in range(layout.interleave):
        shared, experts = _parameters(step, number)
        for group, held, copies in (
            (Group.data_context, shared, layout.copies),
            (Group.expert_data, experts, layout.expert_copies),
        ):
            for bucket in _buckets(step, number, held, copies):
                if layout.zero == 1:
                    ledger.add(group, CollectiveKind.reduce_scatter, bucket * step.gradient)
                    ledger.add(group, CollectiveKind.all_gather, bucket * step.number, gathers)
                else:
                    ledger.add(group, CollectiveKind.all_reduce, bucket * step.gradient)


def _overlaps(step: Step) -> bool:
    """As `parallel.engines.megatron.config.overlaps`."""
    return step.device is DeviceName.cuda and step.layout.copies > 1


def _buckets(step: Step, chunk: int, held: list[tuple[int, bool]], copies: int) -> list[int]:
    """Elements of each bucket of one chunk, including padding, as in Megatron's DDP.

    Args:
        held: `_parameters` of one kind.
        copies: ranks that hold them.
    """
    layout, sharded = step.layout, step.layout.zero == 1
    # Only the first chunk of the first stage reduces while others still compute.
    in_pieces = _overlaps(step) and step.first and chunk == 0
    usual = max(40_000_000, 1_000_000 * layout.data)
    full = (step.features.bucket_size or usual) if in_pieces else None
    buckets, start, end = [], 0, 0

    def close() -> None:
        nonlocal start, end
        if sharded:
            end = _rounded_up(end, math.lcm(copies, 128))
        buckets.append(end - start)
        start = end

    for size, tied in reversed(held):
        if sharded:
            end = _rounded_up(end, 64)
        # So that both stages cut the tied embedding into the same slices.
        alone = tied and sharded
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


def _parameters(step: Step, chunk: int) -> tuple[list[tuple[int, bool]], list[tuple[int, bool]]]:
    """Of one chunk in order: numbers, and whether another stage holds it too.

    First all but the routed experts' parameters, then these, which have buckets of their own.
    """
    shape, layout = step.shape, step.layout
    held = layout.layers_of(step.stage, chunk, shape.layers)
    before, after = ends_held(shape, first=held.start == 0, last=held.stop == shape.layers)
    tied = shape.tied and layout.pipeline > 1

    def numbers(parameter: Parameter) -> tuple[int, bool]:
        parts = parameter.parts(layout.cut)
        return parameter.numbers_on_rank(parts), tied and parameter.padded

    layers = [each for number in held for each in layer_held(shape.form(number), layout.cut)]
    shared = (each for each in layers if each.expert is None)
    experts = (each for each in layers if each.expert is not None)
    return [*map(numbers, (*before, *shared, *after))], [*map(numbers, experts)]
