"""Renders a plan in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from configs.schema import DeviceName
from launcher.run.corpus import human
from parallel.planner.communication.traffic import Traffic
from parallel.planner.inputs.cluster import cluster_names
from parallel.planner.memory.stages import CATEGORIES
from parallel.planner.plan import Plan
from parallel.planner.report.gpt3_figures import headline, petaflop_days_of_all

if TYPE_CHECKING:
    from parallel.planner.trace.trace import RankTrace

_GIB = 2**30
_HEADINGS = ("weights", "grads", "optim", "activ", "logits", "buffers", "system")  # CATEGORIES
_STAGES = 16  # of a long pipeline only the first are shown, and the fullest


def planned_for(plan: Plan) -> str:
    """A heading that says what was planned for."""
    ranks = f"{plan.layout.world_size} rank{'s' if plan.layout.world_size > 1 else ''}"
    if plan.device is DeviceName.cuda:
        cluster = plan.run.cluster
        return f"plan for {ranks} on cluster={cluster.name}, {plan.machine.gpu}"
    return (
        f"plan for {ranks} on this machine's CPU, whose times are rough\n"
        f"clusters: {', '.join(cluster_names())} (cluster=NAME cluster.nodes=N)"
    )


def plan_tables(plan: Plan) -> list[tuple[Table, int]]:
    """The tables, each with the number of leading columns that identify its rows."""
    return [(memory_table(plan), 1), (traffic_table(plan), 3)]


def memory_table(plan: Plan) -> Table:
    """Memory of a rank in GiB, one row per stage and one column per category."""
    limit = plan.machine.memory_bytes / _GIB
    table = new_table(f"memory of a rank by stage, GiB of {limit:,.1f} (* the fullest)")
    table.add_column("stage")
    for name in ("numbers", *_HEADINGS, "total"):
        table.add_column(name, justify="right")
    for stage in _shown_stages(plan):
        memory = plan.memories[stage]
        cells = [_gib(getattr(memory, name)) for name in CATEGORIES]
        table.add_row(
            f"{stage}{'*' if stage == plan.fullest else ''}",
            human(plan.parameters[stage]),
            *cells,
            _gib(memory.total),
        )
    return table


def _gib(size: float) -> str:
    gib = size / _GIB
    return f"{gib:,.2f}" if gib < 1000 else f"{gib:,.0f}"


def _shown_stages(plan: Plan) -> list[int]:
    stages = range(plan.layout.pipeline)
    if len(stages) <= _STAGES:
        return list(stages)
    return sorted({*stages[: _STAGES // 2], plan.fullest, *stages[-_STAGES // 2 :]})


def traffic_table(plan: Plan) -> Table:
    """Collectives per step; stages with the same ones share their rows."""
    alike: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    for stage, traffic in enumerate(plan.traffic):
        rows = tuple(_traffic_cells(plan, each) for each in traffic)
        alike.setdefault(rows, []).append(stage)
    table = new_table("traffic of a rank in a step")
    for name in ("stages", "group", "collective", "link", "time"):
        table.add_column(name)
    for name in ("count", "bytes"):
        table.add_column(name, justify="right")
    for rows, stages in alike.items():
        for row in rows:
            table.add_row(_ranges(stages), *row)
    if plan.layout.world_size == 1:
        table.add_row("0", "none: there is one rank")
    return table


def _ranges(stages: list[int]) -> str:
    """As 0, 2-5: ascending numbers, with those that follow each other as one range."""
    runs: list[list[int]] = []
    for stage in stages:
        if runs and runs[-1][-1] == stage - 1:
            runs[-1].append(stage)
        else:
            runs.append([stage])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _traffic_cells(plan: Plan, traffic: Traffic) -> tuple[str, ...]:
    return (
        str(traffic.group),
        str(traffic.kind),
        plan.link_of(traffic.group),
        "hidden" if plan.overlapped(traffic.group, traffic.kind) else "exposed",
        f"{traffic.count:,}",
        _size(traffic.bytes),
    )


def trace_tables(plan: Plan, traces: list[RankTrace]) -> list[Table]:
    """Parameters, peak memory and traffic of each traced rank, beside the plan's figures."""
    return [_trace_table(plan, trace) for trace in traces]


def _trace_table(plan: Plan, trace: RankTrace) -> Table:
    table = new_table(
        f"rank {trace.rank:,}, stage {trace.stage}: analytic beside trace\n"
        "(the engine's own code on fake tensors)"
    )
    table.add_column("what")
    for name in ("analytic", "trace", "differs"):
        table.add_column(name, justify="right")
    _compare(table, "parameters", plan.parameters[trace.stage], trace.parameters)
    planned = plan.memories[trace.stage].allocated
    _compare(table, "peak memory, MiB", planned / 2**20, trace.peak_bytes / 2**20)
    expected = {(t.group, t.kind): t for t in plan.traffic[trace.stage]}
    seen = {(t.group, t.kind): t for t in trace.traffic}
    for key in sorted({*expected, *seen}):
        mine, its = expected.get(key), seen.get(key)
        name = f"{key[0]} {key[1]}"
        _compare(table, f"{name} count", mine.count if mine else 0, its.count if its else 0)
        _compare(table, f"{name} bytes", mine.bytes if mine else 0, its.bytes if its else 0)
    return table


def _compare(table: Table, what: str, mine: float, its: float) -> None:
    if mine == its:
        differs = ""
    elif not its:
        differs = "no trace"
    else:
        percent = (mine / its - 1) * 100
        differs = f"{percent:+.2f} %" if percent < 1000 else f"{percent:+.0e} %"
    table.add_row(what, f"{mine:,.0f}", f"{its:,.0f}", differs)


def headline_table() -> Table:
    """Published figures of GPT-3, beside those computed here."""
    table = new_table("GPT-3 in numbers")
    for name in ("what", "told", "computed"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for line in [*headline(), *petaflop_days_of_all()]:
        table.add_row(line.what, line.published, line.computed)
    return table


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.2f} {unit}"
        size /= 1000
    raise AssertionError


def new_table(title: str) -> Table:
    """A table in the style of all that a plan shows."""
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
