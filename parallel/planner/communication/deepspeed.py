"""The DeepSpeed engine's traffic beyond its layers', by formula. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

from configs.schema import OptimizerName, Precision
from models.layer_table import Parameter, layer_held
from parallel.engines.deepspeed.config import BUCKET, MOST_KEPT, effective_zero
from parallel.parameter_count import ends_held, rank_parameters
from parallel.planner.communication.groups import Ledger
from parallel.planner.communication.stage_step import DOUBLE, FLOAT, Step
from parallel.planner.communication.traffic import CollectiveKind, Group

_LONG = 8  # bytes
COPIES = (Group.data_context, Group.expert_data)
"""Ranks that hold copies: of all but routed experts, and of these."""


class _Held(NamedTuple):
    """A parameter's elements on a rank, and how DeepSpeed groups it.

    Attributes:
        first: of the first of the optimizer's groups: weights, which decay, but not biases and
            norms; or what Muon trains.
        copies: the ranks that hold copies of it.
    """

    size: int
    first: bool
    copies: Group


def deepspeed_traffic(step: Step, ledger: Ledger) -> None:
    """Approximate in one respect: for models of more than a billion elements per rank, which
    parameters ZeRO 3 gathers twice per micro-batch depends on how far it prefetched.
    """
    if step.layout.pipeline > 1:
        _pipeline(step, ledger)
    else:
        _whole(step, ledger)
    zero = effective_zero(step.layout, step.precision)
    if zero == 0:
        for group in COPIES:
            _reduce(_of(group, _shapes(step)), BUCKET, ledger, group)
        ledger.add(Group.model, CollectiveKind.all_reduce, DOUBLE)  # the norm
        if step.expert_layers:
            ledger.add(Group.tensor_expert, CollectiveKind.all_reduce, DOUBLE)
    elif zero == 3:
        _zero3(step, ledger)
    else:
        _zero(step, ledger, zero)


def _whole(step: Step, ledger: Ledger) -> None:
    for size in step.own_tokens_parameters:
        ledger.add(Group.tensor, CollectiveKind.all_reduce, size * step.number, step.micro_batches)
    ledger.add(Group.data_context, CollectiveKind.all_reduce, FLOAT)  # the loss


def _pipeline(step: Step, ledger: Ledger) -> None:
    layout, m = step.layout, step.micro_batches
    if layout.dualpipev:
        # Both directions: two activations and two gradients are sent to each neighbour.
        neighbours = (step.stage > 0) + (step.stage < layout.pipeline - 1)
        ledger.exchange(step.hidden, 2 * m * neighbours, 2 * m * neighbours)
    else:
        _messages(step, ledger)
        if step.shape.tied and (step.first or step.last):
            ledger.add(Group.embedding, CollectiveKind.all_reduce, step.embedding * FLOAT)
    partial = sum(step.own_tokens_parameters)
    if partial:
        ledger.add(Group.tensor, CollectiveKind.all_reduce, partial * FLOAT)
    if step.last:
        ledger.add(Group.data_context, CollectiveKind.all_reduce, FLOAT)  # the loss
    ledger.add(
        Group.pipeline, CollectiveKind.broadcast, 2 * FLOAT
    )  # this data rank's loss and the mean


def _messages(step: Step, ledger: Ledger) -> None:
    """Activations to the next stage, gradients to the previous one.

    Without sequence parallelism each tensor rank sends its shard with metadata, and both stages
    gather the full tensor.
    """
    layout, m = step.layout, step.micro_batches
    count = m * ((not step.last) + (not step.first))
    if layout.sequence_parallel or layout.tensor == 1:
        ledger.exchange(step.message, count, count)
        return
    numbers = 1 + 3 + 2 + layout.tensor + 1  # of a shape and how it was cut
    ledger.exchange(numbers * _LONG, count, count)
    ledger.exchange(step.hidden // layout.tensor, count, count)
    # For each message to the next stage: its gradient, and the output that was put away.
    ledger.add(
        Group.tensor,
        CollectiveKind.all_gather,
        step.hidden,
        m * (2 * (not step.last) + (not step.first)),
    )


def _zero(step: Step, ledger: Ledger, zero: int) -> None:
    """ZeRO 1 and 2: full buckets are reduced, whatever part of them is kept."""
    layout = step.layout
    bf16_optimizer = zero == 1 and step.precision.stored is Precision.bf16
    groups = _groups(step)
    ranks = {Group.data_context: layout.copies, Group.expert_data: layout.expert_copies}
    flat = [
        each._replace(size=_rounded_up(sum(held.size for held in group), 2 * ranks[each.copies]))
        for group in groups
        for each in group[:1]
    ]
    for each in flat:
        ledger.add(each.copies, CollectiveKind.all_gather, each.size * step.number)
    if bf16_optimizer:
        for copies in COPIES:
            _reduce(_of(copies, flat), BUCKET, ledger, copies)
        ledger.add(Group.model, CollectiveKind.all_reduce, FLOAT)  # the norm
        if step.expert_layers:
            for over in (Group.model, Group.expert):
                ledger.add(over, CollectiveKind.all_reduce, FLOAT)
        return
    sums = step.micro_batches if zero == 2 else 1
    order = [held for group in groups for held in group]
    held = order if zero == 1 else _shapes(step)[::-1]
    for together in _buckets_before([each.size for each in held], _bucket(step)):
        for copies in COPIES:
            size = sum(_of(copies, held[together]))
            if size:
                ledger.add(copies, CollectiveKind.all_reduce, size * FLOAT, sums)
    for group in groups:
        if group[0].copies is Group.expert_data:
            ledger.add(Group.expert_data, CollectiveKind.all_reduce, FLOAT)  # their mean norm
    for over in (Group.data_context, Group.model):
        ledger.add(over, CollectiveKind.all_reduce, FLOAT, len(groups))  # norms
        if step.precision is not Precision.float32:
            ledger.add(over, CollectiveKind.all_reduce, 1)  # overflow


def _zero3(step: Step, ledger: Ledger) -> None:
    """ZeRO 3: parameters are gathered for each pass, gradients scattered after each backward."""
    data, m = step.layout.copies, step.micro_batches
    padded = [_rounded_up(size, data) for size in _as_used(step)]
    # Norms and biases stay replicated, and are gathered one by one after the update.
    small = 10 * step.shape.hidden
    for size in (size for size in padded if size < small):
        ledger.add(Group.data_context, CollectiveKind.all_gather, size * step.number)
    cut = [size for size in padded if size >= small]
    for sizes in (cut, _released(cut, tied=step.shape.tied)):
        for fetched in _fetches(sizes, min(BUCKET, step.shape.hidden**2)):
            ledger.add(Group.data_context, CollectiveKind.all_gather, fetched * step.number, m)
    last = padded[::-1]
    for bucket in _buckets_before(last, _bucket(step)):
        ledger.add(Group.data_context, CollectiveKind.reduce_scatter, sum(last[bucket]) * FLOAT, m)
    norms = sum(_sub_groups([-(-each.size // data) for each in group]) for group in _groups(step))
    for over in (Group.data_context, Group.model):
        ledger.add(over, CollectiveKind.all_reduce, DOUBLE, norms)
        if step.precision is Precision.fp16:
            ledger.add(over, CollectiveKind.all_reduce, 1)  # overflow


def _as_used(step: Step) -> list[int]:
    """Elements of each parameter, in the order in which the forward pass uses them."""
    before, after = ends_held(step.shape, first=True, last=True)
    layers = (
        sorted(step.shape.layer(number), key=lambda each: _projects(each.name))
        for number in step.held_layers
    )
    used = [*before, *chain.from_iterable(layers), *after]
    return [each.numbers_on_rank(step.layout.tensor) for each in used]


def _projects(name: str) -> int:
    """The order of use: a layer holds attention's projection before queries, keys and values."""
    if not name.startswith("self_attention."):
        return 0 if name.startswith("input_layernorm.") else 3
    return 2 if ".linear_proj." in name else 1


def _released(cut: list[int], *, tied: bool) -> list[int]:
    """Parameters released after the forward pass and gathered again for the backward, in order.

    The last billion elements of parameters are kept until then, including a tied embedding, which
    is the very last to be used.
    """
    kept, again = (cut[0] if tied else 0), []
    for size in reversed(cut[tied:]):
        kept += size
        if kept >= MOST_KEPT:
            again.append(size)
    return again


def _fetches(sizes: Iterable[int], at_once: int) -> list[int]:
    """Elements of each gather: enough parameters to reach `at_once`."""
    found = [0]
    for size in sizes:
        if found[-1] >= at_once:
            found.append(0)
        found[-1] += size
    return found if found[-1] else []


def _sub_groups(partitions: Iterable[int]) -> int:
    """The number of sub-groups of an optimizer group in ZeRO 3; each has its own norm."""
    count, size = 0, 0
    for each in partitions:
        count += size == 0
        size = 0 if size + each >= MOST_KEPT else size + each
    return count


def _of(copies: Group, held: Iterable[_Held]) -> list[int]:
    """Elements of those parameters that these ranks hold copies of."""
    return [each.size for each in held if each.copies is copies]


def _reduce(sizes: Iterable[int], bucket: int, ledger: Ledger, over: Group) -> None:
    """Reduces over some ranks as soon as more than a bucket has accumulated."""
    waiting = 0
    for size in sizes:
        waiting += size
        if waiting > bucket:
            ledger.add(over, CollectiveKind.all_reduce, waiting * FLOAT)
            waiting = 0
    if waiting:
        ledger.add(over, CollectiveKind.all_reduce, waiting * FLOAT)


def _buckets_before(sizes: Sequence[int], bucket: int) -> list[slice]:
    """Which of the sizes each bucket has, closed before it would exceed `bucket`."""
    starts, filled = [0], 0
    for number, size in enumerate(sizes):
        if filled and filled + size > bucket:
            starts.append(number)
            filled = 0
        filled += size
    return [slice(*ends) for ends in pairwise([*starts, len(sizes)])]


def _bucket(step: Step) -> int:
    """The bucket size in `deepspeed_config`."""
    stages = range(step.layout.pipeline)
    return min(BUCKET, max(rank_parameters(step.shape, step.layout, stage) for stage in stages))


def _groups(step: Step) -> list[list[_Held]]:
    """Weights, which decay, and biases and norms, which do not; or what Muon trains, and others.

    Routed experts of either kind are a group of their own, after the others.
    """
    shapes = _shapes(step)
    kinds = [(first, copies) for first in (True, False) for copies in COPIES]
    groups = [[each for each in shapes if (each.first, each.copies) == kind] for kind in kinds]
    return [
        group
        for (_, copies), group in zip(kinds, groups, strict=True)
        if group or copies is Group.data_context
    ]


def _shapes(step: Step) -> list[_Held]:
    """Each parameter in order."""
    before, after = ends_held(step.shape, first=step.first, last=step.last)
    if step.shape.tied and step.last and not step.first:
        before, after = [after[-1]], after[:-1]  # a pipeline's tied modules come first
    adams = step.optimizer is OptimizerName.adam

    def held(parameters: Iterable[Parameter], first: bool) -> list[_Held]:
        return [
            _Held(
                each.numbers_on_rank(each.parts(cut)),
                each.is_matrix and first,
                COPIES[each.expert is not None],
            )
            for each in parameters
        ]

    cut = step.layout.cut
    layers = (held(layer_held(step.shape.form(n), cut), True) for n in step.held_layers)
    return [*held(before, adams), *chain.from_iterable(layers), *held(after, adams)]


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
