"""The DeepSpeed engine's traffic beyond its layers', by formula. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from configs.schema import OptimizerName, Precision
from models.layer_table import Parameter
from parallel.engines.deepspeed.config import BUCKET, MOST_KEPT, effective_zero
from parallel.parameter_count import ends_held, rank_parameters
from parallel.planner.communication.groups import Ledger
from parallel.planner.communication.stage_step import DOUBLE, FLOAT, Step
from parallel.planner.communication.traffic import CollectiveKind, Group

_LONG = 8  # bytes


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
        _reduce(_parameters(step), BUCKET, ledger)
        ledger.add(Group.model, CollectiveKind.all_reduce, DOUBLE)  # the norm
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
    flat = [_rounded_up(sum(group), 2 * layout.copies) for group in _groups(step)]
    for numbers in flat:
        ledger.add(Group.data_context, CollectiveKind.all_gather, numbers * step.number)
    if bf16_optimizer:
        _reduce(flat, BUCKET, ledger)
        ledger.add(Group.model, CollectiveKind.all_reduce, FLOAT)  # the norm
        return
    bucket = _bucket(step)
    sums = step.micro_batches if zero == 2 else 1
    order = [size for group in _groups(step) for size in group]
    for _ in range(sums):
        _reduce_before(order if zero == 1 else reversed(_parameters(step)), bucket, ledger)
    for over in (Group.data_context, Group.model):
        ledger.add(over, CollectiveKind.all_reduce, FLOAT, len(_groups(step)))  # norms
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
    for bucket in _buckets_before(reversed(padded), _bucket(step)):
        ledger.add(Group.data_context, CollectiveKind.reduce_scatter, bucket * FLOAT, m)
    norms = sum(_sub_groups([-(-size // data) for size in group]) for group in _groups(step))
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


def _reduce(sizes: Iterable[int], bucket: int, ledger: Ledger) -> None:
    """Reduces over the data ranks as soon as more than a bucket has accumulated."""
    waiting = 0
    for size in sizes:
        waiting += size
        if waiting > bucket:
            ledger.add(Group.data_context, CollectiveKind.all_reduce, waiting * FLOAT)
            waiting = 0
    if waiting:
        ledger.add(Group.data_context, CollectiveKind.all_reduce, waiting * FLOAT)


def _reduce_before(sizes: Iterable[int], bucket: int, ledger: Ledger) -> None:
    for together in _buckets_before(sizes, bucket):
        ledger.add(Group.data_context, CollectiveKind.all_reduce, together * FLOAT)


def _buckets_before(sizes: Iterable[int], bucket: int) -> list[int]:
    """Elements of each bucket, closed before it would exceed `bucket`."""
    found = [0]
    for size in sizes:
        if found[-1] and found[-1] + size > bucket:
            found.append(0)
        found[-1] += size
    return found


def _bucket(step: Step) -> int:
    """The bucket size in `deepspeed_config`."""
    stages = range(step.layout.pipeline)
    return min(BUCKET, max(rank_parameters(step.shape, step.layout, stage) for stage in stages))


def _parameters(step: Step) -> list[int]:
    return [size for size, _ in _shapes(step)]


def _groups(step: Step) -> list[list[int]]:
    """Weights, which decay, and biases and norms, which do not; or what Muon trains, and others."""
    shapes = _shapes(step)
    return [[size for size, first in shapes if first is each] for each in (True, False)]


def _shapes(step: Step) -> list[tuple[int, bool]]:
    """Elements of each parameter in order, and whether it is of the first of the groups."""
    before, after = ends_held(step.shape, first=step.first, last=step.last)
    if step.shape.tied and step.last and not step.first:
        before, after = [after[-1]], after[:-1]  # a pipeline's tied modules come first
    adams = step.optimizer is OptimizerName.adam

    def held(parameters: Iterable[Parameter], first: bool) -> list[tuple[int, bool]]:
        return [
            (each.numbers_on_rank(step.layout.tensor), each.is_matrix and first)
            for each in parameters
        ]

    layers = (held(step.shape.layer(number), True) for number in step.held_layers)
    return [*held(before, adams), *chain.from_iterable(layers), *held(after, adams)]


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
