"""How a step's samples fall into micro-batches, at every size of the batch ramp-up."""

from __future__ import annotations

from collections.abc import Iterator

from parallel.batch_schedule import BatchPlan
from parallel.rules.case import Case
from parallel.rules.cut import splits
from parallel.rules.fault import Fault, Fix, Rule
from parallel.rules.nearest import around, below, multiples_around, to

CALCULATOR = "Megatron-core num_microbatches_calculator.py, DeepSpeed runtime/config.py"


def ramp_is_even(case: Case) -> bool:
    """Whether a BatchPlan can be built from the settings."""
    batch, start = case.run.train.global_batch, case.run.optimizer.ramp_start
    if case.run.model.context < 1 or batch < 1 or case.run.optimizer.ramp_tokens < 0:
        return False
    return case.run.optimizer.ramp_tokens == 0 or (1 <= start <= batch and batch % start == 0)


def _portion(case: Case) -> tuple[int, str]:
    """The number that every batch must be a multiple of, and its explanation."""
    layout = case.layout
    samples = layout.micro_batch * layout.data
    text = f"micro_batch {layout.micro_batch} x data {layout.data}"
    if case.interleaved:
        samples *= layout.pipeline
        text += f" x pipeline {layout.pipeline}"
    return samples, f"{text} = {samples}"


def _smaller_portions(case: Case) -> tuple[Fix, ...]:
    """Suggests a smaller micro-batch, which leaves the run unchanged; then smaller factors."""
    layout, batch = case.layout, case.run.train.global_batch
    return (
        below("layout.micro_batch", layout.micro_batch, batch),
        below("layout.data", layout.data, batch) if case.run.layout.data else (),
        to({"layout.interleave": 1}) if case.interleaved else (),
    )


def batch_splits(case: Case) -> Iterator[Fault]:
    """The batch is a multiple of micro-batch x data ranks, x stages where they interleave."""
    layout, batch = case.layout, case.run.train.global_batch
    portion, text = _portion(case)
    if min(layout.micro_batch, layout.data) < 1 or splits(batch, portion):
        return
    because = (
        ", and an interleaved pipeline takes its micro-batches `pipeline` at a time"
        if splits(batch, layout.micro_batch * layout.data)
        else ""
    )
    yield Fault(
        setting="train.global_batch",
        why=f"{batch} samples are not a multiple of {text}{because}",
        source="Megatron-core pipeline_parallel/schedules.py" if because else CALCULATOR,
        fixes=(
            *_smaller_portions(case),
            *multiples_around("train.global_batch", batch, portion),
        ),
    )


def ramp_has_equal_increments(case: Case) -> Iterator[Fault]:
    """The ramp's first batch divides the full batch, so that the ramp reaches it."""
    batch, start = case.run.train.global_batch, case.run.optimizer.ramp_start
    if case.run.optimizer.ramp_tokens <= 0 or batch < 1 or ramp_is_even(case):
        return
    yield Fault(
        setting="optimizer.ramp_start",
        why=f"the batch grows from {start} by {start} samples at a time and never meets "
        f"train.global_batch={batch}",
        source="Megatron-core num_microbatches_calculator.py",
        fixes=(
            *around("optimizer.ramp_start", start, batch),
            to({"optimizer.ramp_tokens": 0}),
            *(multiples_around("train.global_batch", batch, start) if start > 0 else ()),
        ),
    )


def every_size_of_the_ramp_splits(case: Case) -> Iterator[Fault]:
    """Megatron-core notices only when the ramp reaches the size."""
    if not ramp_is_even(case):
        return
    plan = BatchPlan.of(case.run)
    portion, text = _portion(case)
    # Every size in between is a multiple of the first, so the first decides for all of them.
    if not plan.increments or splits(plan.ramp_start, portion):
        return
    yield Fault(
        setting="optimizer.ramp_start",
        why=f"the batch grows from {plan.ramp_start} to {plan.global_batch} samples, and "
        f"{plan.ramp_start} is not a multiple of {text}",
        source="Megatron-core num_microbatches_calculator.py",
        fixes=(
            *_smaller_portions(case),
            *multiples_around("optimizer.ramp_start", plan.ramp_start, portion),
            to({"optimizer.ramp_tokens": 0}),
        ),
    )


RULES: tuple[Rule, ...] = (
    batch_splits,
    ramp_has_equal_increments,
    every_size_of_the_ramp_splits,
)
