"""Every table of a plan fits a terminal of 80 columns, with whole cells, for the largest models."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from configs.schema import DeviceName, Run
from launcher.console.goal_tables import goals_table
from launcher.console.plan_tables import headline_table, plan_tables, trace_tables
from launcher.console.search_tables import candidates_table, search_tables
from launcher.console.tables import print_table
from parallel.layout import Layout
from parallel.planner.goals import Option, Reached
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.plan import Plan
from parallel.planner.search import Found, every_engine, search
from parallel.planner.trace.trace import RankTrace
from tests.runs import run_of

WIDTH = 80
LARGE = {
    "dense": ("model=llama3_405b cluster=dgx_h100 cluster.nodes=2048 precision=bf16", 16_384),
    "experts": (
        "model=qwen3_235b_a22b cluster=dgx_h100 cluster.nodes=64 precision=bf16 "
        "train.global_batch=256",
        512,
    ),
}


def searched(run: Run, ranks: int) -> Found:
    machine = machine_of(run.cluster)
    calibration = calibrated("phalanx", machine.gpu)
    return search(run, ranks, DeviceName.cuda, machine, calibration, every_engine())


def require_whole(table: Table, keys: int = 1) -> None:
    """All of it in one piece, no line too long, no cell cut or wrapped."""
    console = Console(
        file=io.StringIO(), width=WIDTH, force_terminal=True, no_color=True, markup=False
    )
    print_table(console, table, keys=keys)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for mark in ("\x1b[1m", "\x1b[0m", "\x1b[3m"):
        shown = shown.replace(mark, "")
    lines = shown.splitlines()
    assert "…" not in shown
    assert not [line for line in lines if len(line) > WIDTH]
    rows = len(table.columns[0]._cells) if table.columns else 0
    # Its title, a heading on one or two lines, the rule below it, and the rows.
    title = str(table.title).count("\n") + 1
    assert len([line for line in lines if line.strip()]) <= title + 3 + rows
    for column in table.columns:
        for cell in column.cells:
            assert any(str(cell) in line for line in lines), cell


@pytest.mark.parametrize("name", LARGE)
def test_tables_of_large_models_are_whole(name: str) -> None:
    settings, ranks = LARGE[name]
    run = run_of(settings)
    found = searched(run, ranks)
    for table in search_tables(found, run):
        require_whole(table)
    # And of layouts that agree in nothing.
    require_whole(candidates_table("any", [*found.front, *found.ranked[:: len(found.ranked) // 9]]))
    plan = Plan.of(run, found.ranked[0].layout, DeviceName.cuda)
    for table, keys in plan_tables(plan):
        require_whole(table, keys)
    options = [Option(plan, found)] * 3
    require_whole(goals_table(Reached(options=options, tried=[2048])))
    trace = RankTrace(
        rank=ranks - 1,
        stage=plan.layout.pipeline - 1,
        parameters=plan.parameters[-1],
        operations=10**6,
        model_bytes=1,
        peak_bytes=int(plan.memories[-1].allocated) + 1,
        at_peak={},
        traffic=plan.traffic[-1],
    )
    for table in trace_tables(plan, [trace]):
        require_whole(table)


def test_tables_of_what_fits_nowhere_are_whole() -> None:
    run = run_of("model=llama3_405b cluster=dgx_h100 precision=bf16 train.global_batch=2048")
    plan = Plan.of(run, Layout(data=8, micro_batch=16), DeviceName.cuda)
    for table, keys in plan_tables(plan):
        require_whole(table, keys)
    require_whole(headline_table())
