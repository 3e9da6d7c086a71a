"""What DualPipeV requires of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import Schedule
from parallel.batch_schedule import BatchPlan
from parallel.engines.registry import able
from parallel.rules.batch import ramp_is_even
from parallel.rules.case import Case
from parallel.rules.fault import Fault, Rule
from parallel.rules.nearest import above, below, multiples_around, to

STANDARD = {"layout.schedule": Schedule.standard}
SOURCE = "DeepSpeed runtime/pipe/dualpipev.py"


def the_engine_has_dualpipev(case: Case) -> Iterator[Fault]:
    """Not every engine has this schedule."""
    if case.layout.dualpipev and not case.engine.dualpipev:
        other = able(lambda kind: kind.dualpipev)
        yield Fault(
            setting="layout.schedule",
            why=f"engine={case.engine.name} has no DualPipeV"
            + (f"; engine={other.name} has" if other else ""),
            source=SOURCE,
            fixes=(*([to({"engine": other.name})] if other else []), to(STANDARD)),
        )


def dualpipev_has_stages(case: Case) -> Iterator[Fault]:
    """DualPipeV needs two stages or more."""
    if case.layout.dualpipev and case.layout.pipeline == 1:
        yield Fault(
            setting="layout.schedule",
            why="without a pipeline there is nothing to schedule",
            source="a setting without effect is an error",
            fixes=(to(STANDARD), above("layout.pipeline", 1, case.run.model.layers)),
        )


def dualpipev_has_micro_batches(case: Case) -> Iterator[Fault]:
    """Two for each stage, at every size of the ramp."""
    layout = case.layout
    if not layout.dualpipev or min(layout.micro_batch, layout.data) < 1 or not ramp_is_even(case):
        return
    plan = BatchPlan.of(case.run)
    smallest = plan.ramp_start if plan.increments else plan.global_batch
    count, needed = layout.micro_batches(smallest), 2 * layout.pipeline
    if count >= needed:
        return
    setting = "optimizer.ramp_start" if plan.increments else "train.global_batch"
    portion = needed * layout.micro_batch * layout.data
    yield Fault(
        setting=setting,
        why=f"{smallest} samples make {count} micro-batches on each data rank, and DualPipeV "
        f"needs 2 x pipeline {layout.pipeline} = {needed}",
        source=SOURCE,
        fixes=(
            below("layout.micro_batch", layout.micro_batch, smallest),
            multiples_around(setting, max(smallest, portion), portion)[1],
            to(STANDARD),
        ),
    )


RULES: tuple[Rule, ...] = (
    the_engine_has_dualpipev,
    dualpipev_has_stages,
    dualpipev_has_micro_batches,
)
