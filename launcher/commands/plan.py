"""`phalanx plan`: predicts the cost of a layout, without a cluster or a queue."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.atomic import write_atomic
from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from configs.settings.planning import PlanFormat
from launcher.command_line.compose import hydra_app
from launcher.console.beside_table import beside_table
from launcher.console.cluster_yaml import cluster_yaml, how_to_save
from launcher.console.goal_tables import goals_answer, goals_lines, goals_table
from launcher.console.plan_summary import summary
from launcher.console.plan_tables import headline_table, plan_tables, planned_for, trace_tables
from launcher.console.search_tables import (
    asked_line,
    beside_the_search,
    layout_yaml,
    search_tables,
    why_the_runner_up_lost,
    with_engine,
)
from launcher.console.tables import print_lines, print_table
from launcher.huggingface.begin import but_for_typed, with_its_model
from launcher.machine.at_hand import at_hand
from launcher.planning.asked import layout_of, names_a_layout, ranks_of, second_of
from launcher.planning.calibrate import calibrate
from launcher.planning.goals import check_goals, goals_of, reach
from launcher.planning.searching import searched
from launcher.run.settings import key_of
from models.shape import ModelShape
from parallel.advice import advice
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState
from parallel.planner.plan import Plan
from parallel.planner.report.as_json import answer, search_answer, trace_answer
from parallel.planner.report.perfetto import perfetto
from parallel.planner.search import Found
from parallel.rules import check, check_ranges

PAGE = "plan.html"


def plan(run: Run, overrides: list[str]) -> None:
    """Plans the layout, or the fastest one found by a search, and prints or writes the result."""
    if run.plan.runs is not None:
        calibrate(run)
        return
    check_ranges(run, ("cluster", "plan"))
    typed = [key_of(each) for each in overrides]
    run = _with_model_there(run, typed)
    machine = at_hand(run, typed) if run.cluster.from_ is not None else None
    if machine is not None:
        run = replace(run, cluster=machine.cluster)
    check_goals(run)
    reached = None
    if goals_of(run):
        reached, option = reach(run, typed)
        run = replace(run, cluster=option.plan.run.cluster)
    device, ranks = ranks_of(run)
    requested = layout_of(run, ranks, device, overrides)
    layout, found, asked = requested, None, run
    if run.plan.search:
        found = option.found if reached else searched(run, device, ranks, typed)
        layout, run = found.ranked[0].layout, replace(run, engine=found.ranked[0].engine)
    check(run, layout, ranks=ranks, device=device)
    planned = Plan.of(run, layout, device)
    traces = _traces(planned) if run.plan.trace else []
    report = _report(planned, found, traces)
    if found and names_a_layout(overrides):
        beside = beside_the_search(asked, requested, device, ranks, found)
        report["search"]["asked"] = beside
    else:
        beside = None
    if reached is not None:
        report["goals"] = goals_answer(reached)
    report["advice"] = advice(run, layout)
    if machine is not None:
        report["cluster"] = {
            "settings": asdict(machine.cluster),
            "sources": machine.sources,
            "notes": list(machine.notes),
        }
        del report["cluster"]["settings"]["from_"]
    second = None
    if run.plan.beside is not None:
        second = second_of(run, overrides, layout if found else None)
    if second is not None:
        report["beside"] = answer(second)
    if run.plan.timeline is not None:
        _write_timeline(run.plan.timeline, planned)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if run.plan.out is not None and run.format is not PlanFormat.html:
        raise InputError(
            f"{override('plan.out', run.plan.out)} format={run.format}: only a page is written to "
            "a file; nearest: format=html, or > FILE"
        )
    if run.format is PlanFormat.json:
        json.dump(report, sys.stdout, indent=1, allow_nan=False)
        print()
    elif run.format is PlanFormat.html:
        from parallel.planner.report.page import page

        path = run.plan.out or PAGE
        _write("plan.out", path, page(planned, report, found))
        console.print(f"wrote {path}")
    else:
        if reached is not None:
            print_table(console, goals_table(reached))
            print_lines(console, goals_lines(reached))
            console.print()
        console.print(f"{planned_for(planned)}\n")
        if machine is not None:
            print_lines(console, f"{cluster_yaml(machine)}\n{how_to_save(machine)}")
            print_lines(console, "\n".join(machine.notes))
            console.print()
        _show(console, planned, found, traces)
        if second is not None:
            print_table(console, beside_table(planned, second))
        if beside is not None:
            print_lines(console, asked_line(beside))
        print_lines(console, "\n".join(report["advice"]))


def _with_model_there(run: Run, typed: list[str]) -> Run:
    """The run with the model of the checkpoint or the folder that it names, but for what was typed.

    Raises InputError if there is none, or it contradicts what was typed.
    """
    if run.checkpoint is None:
        return run
    path = Path(run.checkpoint).expanduser()
    if manifest.is_huggingface(path):
        return with_its_model(run, typed)
    checkpoint = manifest.find(path)
    if not {"model", "experiment"} & set(typed):
        there = {"name": path.resolve().name, **manifest.shape_in(checkpoint).settings()}
        run = replace(run, model=but_for_typed(run.model, there, typed))
    TrainState.read(checkpoint).require_shape(ModelShape.of(run.model), checkpoint)
    return run


def _write_timeline(path: str, planned: Plan) -> None:
    """Reports on stderr what the file contains: stdout may carry JSON."""
    played, shown = planned.played_for_a_file()
    whole = planned.job.micro_batches
    _write("plan.timeline", path, json.dumps(perfetto(played, whole)))
    part = "all" if shown == whole else f"the first {shown:,} of"
    print(f"wrote {path}: {part} {whole:,} micro-batches of a step", file=sys.stderr)


def _write(setting: str, path: str, text: str) -> None:
    try:
        write_atomic(Path(path), text)
    except OSError as error:
        raise InputError(
            f"{setting}={path}: {error.strerror}; nearest: {setting}={Path(path).name or PAGE}"
        ) from None


def _traces(planned: Plan) -> list[Any]:
    # Megatron-core and torch warn about missing packages, which a trace does not need.
    warnings.filterwarnings("ignore")
    from parallel.planner.trace.trace import trace, traced_ranks

    found, ranks = [], traced_ranks(planned.layout)
    for number, rank in enumerate(ranks, start=1):
        stage = planned.layout.coordinates(rank).pipeline
        print(
            f"tracing rank {rank}, stage {stage} ({number} of {len(ranks)}): "
            f"{planned.job.micro_batches:,} micro-batches through {planned.job.layers_of(stage)} "
            "layers, an operation at a time",
            file=sys.stderr,
            flush=True,
        )
        found.append(trace(planned.run, planned.layout, rank, device=planned.device))
    return found


def _report(planned: Plan, found: Found | None, traces: list[Any]) -> dict[str, Any]:
    report = answer(planned)
    if found is not None:
        report["search"] = search_answer(found, planned.run.plan.top)
    if traces:
        report["trace"] = [trace_answer(each) for each in traces]
    return report


def _show(console: Console, planned: Plan, found: Found | None, traces: list[Any]) -> None:
    for table in search_tables(found, planned.run) if found else []:
        print_table(console, table)
    for table, keys in plan_tables(planned):
        print_table(console, table, keys=keys)
    for table in trace_tables(planned, traces):
        print_table(console, table)
    if planned.run.cluster.sustained_tflops is not None:
        print_table(console, headline_table())
    if found is not None:
        console.print(f"# the fastest, as a file of configs/layout{with_engine(found.ranked[0])}")
        console.print(f"{layout_yaml(planned.layout)}\n")
        if len(found.ranked) > 1:
            console.print(why_the_runner_up_lost(found))
    print_lines(console, summary(planned))


app = hydra_app(plan)
