"""Two plans side by side in the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from configs.schema import DeviceName
from parallel.planner.plan import Plan

_GIB = 2**30


def beside_table(first: Plan, second: Plan) -> Table:
    """A row for each figure; those that differ are marked."""
    table = Table(
        title="side by side (* where they differ)",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    table.add_column("what")
    table.add_column("this layout", justify="right")
    table.add_column("the other", justify="right")
    others = dict(_figures(second))
    for name, value in _figures(first):
        table.add_row(f"{name}{'' if value == others[name] else '*'}", value, others[name])
    return table


def _figures(plan: Plan) -> list[tuple[str, str]]:
    layout, time, cost = plan.layout, plan.time, plan.cost
    within = "as measured here" if plan.probes else "several times off"
    if plan.spread is not None:
        low, high = time.seconds / plan.spread.factor, time.seconds * plan.spread.factor
        within = f"{low:.4g} to {high:.4g}"
    priced = plan.device is DeviceName.cuda and cost.dollars is not None
    return [
        ("model", plan.run.model.name),
        ("on", plan.machine.gpu),
        ("precision", str(plan.run.precision)),
        ("layout", str(layout)),
        ("ranks", f"{layout.world_size:,}"),
        ("engine", str(plan.run.engine.name)),
        ("micro-batch", str(layout.micro_batch)),
        ("ZeRO", str(layout.zero)),
        ("recompute", str(layout.recompute)),
        ("fits", "yes" if plan.fits else "no"),
        ("fullest rank, GiB", f"{plan.memories[plan.fullest].total / _GIB:,.2f}"),
        ("step, s", f"{time.seconds:.4g}"),
        ("nine times in ten, s", within),
        ("data collectives exposed, s", f"{time.data:.4g}"),
        ("bubble", f"{time.bubble_fraction * 100:.1f} %"),
        ("TFLOPS a rank", f"{plan.tflops_per_gpu:,.4g}"),
        ("MFU", f"{plan.mfu * 100:.1f} %"),
        ("days", f"{cost.days:,.4g}"),
        ("dollars", f"{cost.dollars:,.0f}" if priced else "no price"),
    ]
