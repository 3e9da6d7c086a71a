"""DeepSpeed's memory besides weights and activations, at the moments when it can peak.

Derived from the code of DeepSpeed 0.19 (bf16_optimizer.py, stage_1_and_2.py, stage3.py) and from
traces of it, which `tests/parallel/planner/memory/test_stages.py` compares. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import Precision
from parallel.engines.deepspeed.config import BUCKET, MOST_KEPT, effective_zero
from parallel.parameter_count import Numbers
from parallel.planner.inputs.job import Job
from parallel.planner.memory.megatron import FLOAT32, kept_gradients
from parallel.planner.memory.moment import Moment


def moments(job: Job, numbers: Numbers, held: int) -> Iterator[Moment]:
    """The moments of a rank that holds `numbers` parameters before ZeRO shards them.

    With an offloaded optimizer gradients are counted as without, which is the most that they take:
    part of them is in host memory.

    Args:
        held: the maximum number of passes whose activations it keeps at once.
    """
    if job.kept_gradient_bytes is not None:
        yield _of_older(job, numbers)
        return
    zero = effective_zero(job.layout, Precision(job.precision))
    # Whether gradients of earlier micro-batches exist while that many are kept.
    later = job.micro_batches * job.layout.chunks_per_stage > held
    if zero == 0:
        yield _at_loss(job, FLOAT32 * numbers.total * later)
        yield _behind(job, FLOAT32 * numbers.total, FLOAT32 * min(BUCKET, numbers.total))
    elif zero == 1 and Precision(job.precision).stored is Precision.bf16 and not job.offloads:
        yield from _of_bf16(job, numbers, later)
    elif zero == 1:
        yield from _of_zero_1(job, numbers, later)
    elif zero == 2:
        yield from _of_zero_2(job, numbers, later)
    else:
        yield from _of_zero_3(job, numbers)


def _of_older(job: Job, numbers: Numbers) -> Moment:
    """Older DeepSpeed created float32 gradients of its shard before the update."""
    zero, masters = job.layout.zero, numbers.times(4)
    copies = masters.shard(job.layout) if zero >= 1 else masters.total
    whole = zero >= 1 and job.precision != Precision.bf16
    buffers = 4 * min(BUCKET, numbers.total) if whole else 0
    return Moment(gradients=kept_gradients(job, numbers) + copies, buffers=buffers)


def _at_loss(job: Job, gradients: float = 0, buffers: float = 0) -> Moment:
    """The moment when all activations are kept."""
    former = _outputs(job) if job.micro_batches > 1 else 0.0
    return Moment(gradients=gradients, buffers=buffers, logits=1 + former)


def _behind(job: Job, gradients: float, buffers: float) -> Moment:
    """The moment after the backward pass."""
    return Moment(gradients=gradients, buffers=buffers, kept=0, logits=_outputs(job))


def _outputs(job: Job) -> float:
    """A pipeline keeps its last output: logits in float32."""
    return FLOAT32 / (FLOAT32 + job.number_bytes) if job.layout.pipeline > 1 else 0.0


def _of_bf16(job: Job, numbers: Numbers, later: bool) -> Iterator[Moment]:
    whole, of_pass = FLOAT32 * numbers.total, job.number_bytes * numbers.total
    yield _at_loss(job, whole + of_pass * later)
    # A group of weights that is alone in its bucket is reduced in place.
    copied = FLOAT32 * numbers.total * (numbers.total <= BUCKET)
    yield _behind(job, whole + of_pass, copied)


def _of_zero_1(job: Job, numbers: Numbers, later: bool) -> Iterator[Moment]:
    sums, bucket = FLOAT32 * numbers.total, FLOAT32 * min(BUCKET, numbers.total)
    yield _at_loss(job, sums * later, bucket * later)
    yield Moment(gradients=sums * later, buffers=bucket, logits=0)
    # A bucket's gradients are freed once copied into it; it is copied again for the reduction.
    # A pipeline needs one more bucket.
    share = numbers.times(FLOAT32).shard(job.layout) if job.number_bytes == 2 else 0.0
    yield _behind(job, sums + share, bucket * (2 if job.layout.pipeline > 1 else 1))


def _of_zero_2(job: Job, numbers: Numbers, later: bool) -> Iterator[Moment]:
    numbers_of_bucket, number = min(BUCKET, numbers.total), job.number_bytes
    share = numbers.times(FLOAT32).shard(job.layout)
    filling = 2 * number * numbers_of_bucket  # one is filled while the other is reduced
    yield _at_loss(job, share * later)
    yield Moment(gradients=share * later, buffers=filling, logits=0)
    # The bucket that is reduced, laid out flat and, of half precision, in float32.
    flat = number + (FLOAT32 if number == 2 else 0)
    yield Moment(
        gradients=share,
        buffers=filling + flat * numbers_of_bucket,
        kept=_kept_at_first_bucket(job),
        logits=0,
    )
    if number == FLOAT32 and later:
        # The accumulated gradients, and this micro-batch's before they are added.
        last = numbers.total % BUCKET or numbers_of_bucket
        yield _behind(job, 2 * share, filling + flat * last)


def _of_zero_3(job: Job, numbers: Numbers) -> Iterator[Moment]:
    bucket = FLOAT32 * min(BUCKET, numbers.total)
    share = numbers.times(FLOAT32).shard(job.layout)
    # Weights stay gathered until this many elements are live.
    gathered = job.number_bytes * min(MOST_KEPT, numbers.total)
    yield _at_loss(job, share, bucket + gathered)
    yield Moment(
        gradients=share,
        buffers=2 * bucket + gathered,
        kept=_kept_at_first_bucket(job),
        logits=0,
    )


def _kept_at_first_bucket(job: Job) -> float:
    """The fraction of activations left when the gradients fill a bucket.

    The embedding's gradients come last, since its weights also produce the logits.
    """
    layers = job.shape.layers_on_rank(range(job.shape.layers)) / job.layout.tensor
    return max(0.0, 1 - BUCKET / layers)
