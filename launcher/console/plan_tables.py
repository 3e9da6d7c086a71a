"""Renders a plan in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich import box
from rich.table import Table

from configs.schema import DeviceName, Run
from launcher.console.tables import in_words
from launcher.run.corpus import human
from parallel.layout import Layout
from parallel.planner.communication.traffic import Traffic
from parallel.planner.inputs.cluster import cluster_names
from parallel.planner.inputs.uncertainty import held_out
from parallel.planner.memory.stages import CATEGORIES
from parallel.planner.plan import Plan
from parallel.planner.report.gpt3_figures import headline, petaflop_days_of_all
from parallel.planner.search import Candidate, Found
from parallel.rules import violations

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


def beside_the_search(
    run: Run, layout: Layout, device: DeviceName, ranks: int | None, found: Found
) -> dict[str, Any]:
    """The given layout compared with a search's results: its place, or why it has none."""
    settings = {"layout": str(layout), "micro_batch": layout.micro_batch}
    faults = violations(run, layout, ranks=ranks, device=device)
    if faults:
        return {**settings, "valid": False, "why": [str(fault) for fault in faults]}
    plan = Plan.of(run, layout, device)
    best, faster = found.ranked[0].seconds, plan.time.seconds
    return {
        **settings,
        "valid": True,
        "fits": plan.fits,
        "seconds": plan.time.seconds,
        "gib": plan.memories[plan.fullest].total / _GIB,
        "place": 1 + sum(each.seconds < faster for each in found.ranked),
        "of": len(found.ranked),
        "slower": plan.time.seconds / best - 1,
    }


def asked_line(asked: dict[str, Any]) -> str:
    """Formats the result of `beside_the_search` as one line."""
    name = f"asked    {asked['layout']}, micro-batch {asked['micro_batch']}"
    if not asked["valid"]:
        return f"{name}: cannot be: " + "; ".join(asked["why"])
    fits = "" if asked["fits"] else ", and does not fit"
    slower = f"{asked['slower'] * 100:+.1f} % of the fastest's time"
    place = f"place {asked['place']:,} of {asked['of']:,}" if asked["fits"] else "no place"
    return f"{name}: {asked['seconds']:,.3f} s ({slower}), {asked['gib']:,.1f} GiB{fits}; {place}"


def plan_tables(plan: Plan) -> list[tuple[Table, int]]:
    """The tables, each with the number of leading columns that identify its rows."""
    return [(memory_table(plan), 1), (traffic_table(plan), 3)]


def memory_table(plan: Plan) -> Table:
    """Memory of a rank in GiB, one row per stage and one column per category."""
    limit = plan.machine.memory_bytes / _GIB
    table = _table(f"memory of a rank by stage, GiB of {limit:,.1f} (* the fullest)")
    table.add_column("stage")
    for name in ("numbers", *_HEADINGS, "total"):
        table.add_column(name, justify="right")
    for stage in _shown_stages(plan):
        memory = plan.memories[stage]
        cells = [f"{getattr(memory, name) / _GIB:,.2f}" for name in CATEGORIES]
        table.add_row(
            f"{stage}{'*' if stage == plan.fullest else ''}",
            human(plan.parameters[stage]),
            *cells,
            f"{memory.total / _GIB:,.2f}",
        )
    return table


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
    table = _table("traffic of a rank in a step")
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


def search_tables(found: Found, run: Run) -> list[Table]:
    """The `plan.top` fastest layouts, and the Pareto front of memory and time."""
    ranks = found.ranked[0].layout.world_size
    best = _table(
        f"the fastest of {len(found.ranked):,} layouts of {ranks} ranks that fit "
        f"({found.tried:,} tried, {found.valid:,} valid)"
    )
    _candidate_columns(best, found.ranked[: run.plan.top])
    front = _table("memory against time: no other layout is both leaner and faster")
    _candidate_columns(front, found.front)
    return [best, front]


def _candidate_columns(table: Table, candidates: Iterable[Candidate]) -> None:
    for name in ("layout", "micro-batch", "sequence", "ZeRO", "recompute", "step s", "GiB"):
        table.add_column(name, justify="left" if name in ("layout", "recompute") else "right")
    for each in candidates:
        layout = each.layout
        table.add_row(
            f"{layout}{' DualPipeV' if layout.dualpipev else ''}",
            str(layout.micro_batch),
            "yes" if layout.sequence_parallel else "",
            str(layout.zero),
            str(layout.recompute),
            f"{each.seconds:,.3f}",
            f"{each.memory / _GIB:,.1f}",
        )


def why_the_runner_up_lost(found: Found) -> str:
    """The settings in which the second layout differs from the first, and their cost."""
    first, second = found.ranked[0], found.ranked[1]
    ours, theirs = asdict(first.layout), asdict(second.layout)
    changes = [
        f"{name} {theirs[name]} instead of {ours[name]}"
        for name in ours
        if ours[name] != theirs[name]
    ]
    slower = (second.seconds / first.seconds - 1) * 100
    memory = (second.memory - first.memory) / _GIB
    return (
        f"runner-up {second.layout}: {', '.join(changes)}; {slower:.2f} % slower, "
        f"{memory:+,.1f} GiB"
    )


def layout_yaml(layout: Layout) -> str:
    """A file for configs/layout, ready to use."""
    return OmegaConf.to_yaml(OmegaConf.structured(layout.as_config())).strip()


def trace_table(plan: Plan, traces: list[RankTrace]) -> Table:
    """Parameters, peak memory and traffic of each traced rank, beside the plan's figures."""
    table = _table("analytic beside trace (the engine's own code on fake tensors)")
    for name in ("rank", "stage", "what"):
        table.add_column(name)
    for name in ("analytic", "trace", "difference"):
        table.add_column(name, justify="right")
    for trace in traces:
        place = (str(trace.rank), str(trace.stage))
        _compare(table, place, "parameters", plan.parameters[trace.stage], trace.parameters)
        planned = plan.memories[trace.stage].allocated
        _compare(table, place, "peak memory, MiB", planned / 2**20, trace.peak_bytes / 2**20)
        expected = {(t.group, t.kind): t for t in plan.traffic[trace.stage]}
        seen = {(t.group, t.kind): t for t in trace.traffic}
        for key in sorted({*expected, *seen}):
            mine, its = expected.get(key), seen.get(key)
            name = f"{key[0]} {key[1]}"
            _compare(
                table, place, f"{name} count", mine.count if mine else 0, its.count if its else 0
            )
            _compare(
                table, place, f"{name} bytes", mine.bytes if mine else 0, its.bytes if its else 0
            )
    return table


def _compare(table: Table, place: tuple[str, str], what: str, mine: float, its: float) -> None:
    difference = "" if mine == its else f"{(mine / its - 1) * 100:+.2f} %" if its else "only here"
    table.add_row(*place, what, f"{mine:,.0f}", f"{its:,.0f}", difference)


def headline_table() -> Table:
    """Published figures of GPT-3, beside those computed here."""
    table = _table("GPT-3 in numbers")
    for name in ("what", "told", "computed"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for line in [*headline(), *petaflop_days_of_all()]:
        table.add_row(line.what, line.published, line.computed)
    return table


def summary(plan: Plan) -> str:
    """The plan in a few lines: whether it fits, time, speed, cost."""
    run, time, cost, layout = plan.run, plan.time, plan.cost, plan.layout
    peak = plan.memories[plan.fullest].total / _GIB
    limit = plan.machine.memory_bytes / _GIB
    verdict = "fits" if plan.fits else f"DOES NOT FIT; nearest: {_what_would_fit(plan)}"
    active, routed = "", ""
    if plan.shape.moe.experts:
        active = f", {in_words(plan.shape.active_parameters)} of a token"
        routed = f", experts' {_seconds(time.experts)}"
    price, each = "", "GPU" if plan.device is DeviceName.cuda else "rank"
    if cost.dollars is not None:
        dollars = _rounded(cost.dollars) if cost.dollars >= 10 else f"{cost.dollars:.2f}"
        price = f", ${dollars} at ${cost.dollars_per_hour:g} a {each}-hour"
    lines = [
        f"model    {run.model.name}, {in_words(plan.shape.parameters)} parameters{active}",
        f"layout   {layout} on {layout.world_size} x {plan.machine.gpu}, {run.engine.name}, "
        f"{run.precision}",
        f"memory   {peak:,.2f} of {limit:,.1f} GiB a rank, on stage {plan.fullest}: {verdict}",
        f"step     {_seconds(time.seconds)} s: pipeline {_seconds(time.pipeline)} (tensor "
        f"collectives {_seconds(time.tensor)}{routed}), data {_seconds(time.data)}, optimizer "
        f"{_seconds(time.optimizer)}; "
        f"bubble {time.bubble_fraction * 100:.1f} %",
        f"speed    {plan.tflops_per_gpu:,.4g} TFLOPS a rank, MFU {plan.mfu * 100:.1f} %, "
        f"{plan.job.global_batch * plan.shape.context / time.seconds:,.0f} tokens/s",
        f"training {human(cost.tokens)} tokens in {cost.steps:,} steps: {_span(cost.days)}, "
        f"{_hours(cost.gpu_hours)} {each}-hours{price}",
        _sure(plan),
    ]
    if run.cluster.sustained_tflops is not None:
        lines.append(
            f"         days and price at {run.cluster.sustained_tflops:g} TFLOPS sustained"
        )
    if plan.device is DeviceName.cuda and run.precision == "float32":
        lines.append(
            "         float32 is slow on this GPU; precision=bf16 (or fp16) is planned alike"
        )
    return "\n".join(lines)


def _sure(plan: Plan) -> str:
    """Where the step's time lies nine times in ten, or what the plan of a CPU rests on."""
    if plan.spread is None:
        return f"basis    {plan.basis}"
    low, high = plan.time.seconds / plan.spread.factor, plan.time.seconds * plan.spread.factor
    return (
        f"within   {_seconds(low)} to {_seconds(high)} s a step, nine times in ten, by plans of "
        f"published runs;\n         the {plan.spread.nearest} nearest of {len(held_out())} carry "
        "half of the weight"
    )


def _what_would_fit(plan: Plan) -> str:
    if plan.device is not DeviceName.cuda:
        return "a smaller model or a cluster"
    cluster = plan.run.cluster
    if cluster.nodes * (cluster.gpus_per_node or 1) > 1:
        return "plan.search=true"
    return "more GPUs (cluster=dgx_a100), or a smaller model"


def _span(days: float) -> str:
    if days * 24 * 60 < 1:
        return f"{days * 24 * 3600:.0f} seconds"
    if days * 24 < 1:
        return f"{days * 24 * 60:.0f} minutes"
    if days < 1:
        return f"{_hours(days * 24)} hours"
    return f"{days:,.2f} days" if days < 1000 else f"{_rounded(days / 365.25)} years"


def _hours(hours: float) -> str:
    return _rounded(hours) if hours >= 10 else f"{hours:.2f}"


def _seconds(seconds: float) -> str:
    return _rounded(seconds) if seconds >= 1000 else f"{seconds:.4g}"


def _rounded(value: float) -> str:
    """A large number with the four digits that an estimate may have."""
    return f"{float(f'{value:.4g}'):,.0f}"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.2f} {unit}"
        size /= 1000
    raise AssertionError


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
