"""`phalanx plan`: predicts the cost of a layout, without a cluster or a queue."""

from __future__ import annotations

import json
import math
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.atomic import write_atomic
from configs.errors import InputError
from configs.override import override
from configs.schema import DeviceName, Run
from configs.settings.planning import PlanFormat
from configs.words import listed
from launcher.command_line.compose import hydra_app
from launcher.console.cluster_yaml import cluster_yaml, how_to_save
from launcher.console.plan_tables import (
    asked_line,
    beside_the_search,
    headline_table,
    layout_yaml,
    plan_tables,
    planned_for,
    search_tables,
    summary,
    trace_table,
    why_the_runner_up_lost,
)
from launcher.console.tables import print_lines, print_table
from launcher.huggingface.begin import but_for_typed, with_its_model
from launcher.machine.at_hand import at_hand
from launcher.run.settings import key_of
from models.shape import ModelShape
from parallel.advice import advice
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState
from parallel.hardware import choose_device, cuda_devices
from parallel.layout import Layout
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.plan import Plan
from parallel.planner.report.as_json import answer, search_answer, trace_answer
from parallel.planner.report.perfetto import perfetto
from parallel.planner.search import Found, candidates, fits_somewhere, search
from parallel.planner.ways import with_fastest_way
from parallel.rules import allowed, check

PAGE = "plan.html"


def plan(run: Run, overrides: list[str]) -> None:
    """Plans the layout, or the fastest one found by a search, and prints or writes the result."""
    typed = [key_of(each) for each in overrides]
    run = _with_model_there(run, typed)
    machine = at_hand(run, typed) if run.cluster.from_ is not None else None
    if machine is not None:
        run = replace(run, cluster=machine.cluster)
    device, ranks = _ranks(run)
    found = _search(run, device, ranks) if run.plan.search else None
    requested = with_fastest_way(run, _layout(run, ranks, overrides), ranks, device)
    layout = found.ranked[0].layout if found else requested
    check(run, layout, ranks=ranks, device=device)
    planned = Plan.of(run, layout, device)
    traces = _traces(planned) if run.plan.trace else []
    report = _report(planned, found, traces)
    if found and _names_a_layout(overrides):
        beside = beside_the_search(run, requested, device, ranks, found)
        report["search"]["asked"] = beside
    else:
        beside = None
    report["advice"] = advice(run, layout)
    if machine is not None:
        report["cluster"] = {
            "settings": asdict(machine.cluster),
            "sources": machine.sources,
            "notes": list(machine.notes),
        }
        del report["cluster"]["settings"]["from_"]
    if run.plan.timeline is not None:
        _write_timeline(run.plan.timeline, planned)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if run.plan.out is not None and run.format is not PlanFormat.html:
        raise InputError(
            f"{override('plan.out', run.plan.out)} format={run.format}: only a page is written to "
            "a file; nearest: format=html, or > FILE"
        )
    if run.format is PlanFormat.json:
        json.dump(report, sys.stdout, indent=1)
        print()
    elif run.format is PlanFormat.html:
        from parallel.planner.report.page import page

        path = run.plan.out or PAGE
        _write("plan.out", path, page(planned, report, found))
        console.print(f"wrote {path}")
    else:
        console.print(f"{planned_for(planned)}\n")
        if machine is not None:
            print_lines(console, f"{cluster_yaml(machine)}\n{how_to_save(machine)}")
            print_lines(console, "\n".join(machine.notes))
            console.print()
        _show(console, planned, found, traces)
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


def _names_a_layout(overrides: list[str]) -> bool:
    return any(key_of(override).split(".")[0] == "layout" for override in overrides)


def _write(setting: str, path: str, text: str) -> None:
    try:
        write_atomic(Path(path), text)
    except OSError as error:
        raise InputError(
            f"{setting}={path}: {error.strerror}; nearest: {setting}={Path(path).name or PAGE}"
        ) from None


def _ranks(run: Run) -> tuple[DeviceName, int | None]:
    """The device to plan for and the cluster's ranks; a GPU cluster implies CUDA."""
    cluster = run.cluster
    if cluster.gpu is not None and run.device is not DeviceName.cpu:
        machine_of(cluster)
        return DeviceName.cuda, cluster.nodes * (cluster.gpus_per_node or 1)
    device = choose_device(run.device)
    if device is DeviceName.cuda:
        machine_of(cluster)
    return device, cuda_devices() if device is DeviceName.cuda else None


def _layout(run: Run, ranks: int | None, overrides: list[str]) -> Layout:
    """The requested layout; the single-rank layout if none was requested and there is one GPU."""
    requested = _names_a_layout(overrides) or run.run_dir is not None
    if ranks == 1 and not requested:
        return Layout(micro_batch=1)
    return Layout.resolve(run.layout, ranks)


def _search(run: Run, device: DeviceName, ranks: int | None) -> Found:
    """Raises InputError if no layout is valid or none fits."""
    if ranks is None:
        raise InputError(
            f"plan.search=true cluster={run.cluster.name}: for how many ranks is not said; "
            "nearest: cluster=dgx_a100 cluster.nodes=1"
        )
    machine = machine_of(run.cluster)
    calibration = calibrated(run.cluster.software, machine.gpu)
    found = search(run, ranks, device, machine, calibration)
    if found.leanest is None:
        nearest = _nearest_batches(run, ranks, device)
        if not nearest:  # whatever the batch: the rules say why of the simplest layout
            check(_with_batch(run, ranks), Layout(data=ranks), ranks=ranks, device=device)
        raise InputError(
            f"plan.search=true: none of {found.tried} layouts of {ranks} ranks is valid for "
            f"model={run.model.name}, train.global_batch={run.train.global_batch}, "
            f"optimizer.ramp_start={run.optimizer.ramp_start}; nearest: "
            f"{listed(nearest, apart=' or ')}"
        )
    if not found.ranked:
        raise InputError(_fits_nowhere(run, ranks, found))
    return found


def _nearest_batches(run: Run, ranks: int, device: DeviceName) -> list[str]:
    """Overrides with which some layout is valid: the nearest global batch below and above, with the
    ramp-up if one works with it. Empty if no batch helps.
    """
    batch, start = run.train.global_batch, max(run.optimizer.ramp_start, 1)
    constant = _with_batch(run, batch)
    for ramped, before in ((run, ""), (constant, "optimizer.ramp_tokens=0")):
        # A batch is a multiple of the replicas, whose number divides the ranks, and of the ramp's
        # first batch if there is one.
        units = [size for size in range(1, ranks + 1) if ranks % size == 0]
        units += [math.lcm(size, start) for size in units]
        below = sorted({batch // unit * unit for unit in units} - {0}, reverse=True)
        above = sorted({(batch // unit + 1) * unit for unit in units})
        found = [
            next((each for each in side if _is_valid(ramped, each, ranks, device)), None)
            for side in (below, above)
        ]
        ways = [it for it in dict.fromkeys(found) if it is not None]
        if before and batch in ways:
            return [before]
        if ways:
            return [f"{before} {override('train.global_batch', it)}".strip() for it in ways]
    return []


def _with_batch(run: Run, batch: int) -> Run:
    """The run with this global batch from the first step on."""
    constant = replace(run.optimizer, ramp_tokens=0)
    return replace(run, optimizer=constant, train=replace(run.train, global_batch=batch))


def _is_valid(run: Run, batch: int, ranks: int, device: DeviceName) -> bool:
    """Whether any layout is, with this global batch."""
    tried = replace(run, train=replace(run.train, global_batch=batch))
    return any(
        allowed(tried, layout, ranks=ranks, device=device)
        for layout in candidates(tried, ranks, machine_of(run.cluster).link_gpus)
    )


def _fits_nowhere(run: Run, ranks: int, found: Found) -> str:
    assert found.leanest is not None
    needed = found.leanest.memory / 2**30
    limit = found.limit / 2**30
    nodes = run.cluster.nodes
    return (
        f"model={run.model.name}: none of {found.valid} valid layouts of {ranks} ranks fits into "
        f"{limit:,.1f} GiB of {run.cluster.gpu}; the leanest ({found.leanest.layout}) needs "
        f"{needed:,.1f} GiB; nearest: {_larger(run, nodes)}"
    )


def _larger(run: Run, nodes: int) -> str:
    """The smallest number of nodes, by doubling, on which something fits."""
    machine = machine_of(run.cluster)
    calibration = calibrated(run.cluster.software, machine.gpu)
    for _ in range(8):
        nodes *= 2
        larger = replace(run, cluster=replace(run.cluster, nodes=nodes))
        ranks = nodes * machine.gpus_per_node
        if fits_somewhere(larger, ranks, DeviceName.cuda, machine, calibration):
            return f"cluster.nodes={nodes}"
    return "a smaller model or a GPU with more memory"


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
    if traces:
        print_table(console, trace_table(planned, traces), keys=3)
    if planned.run.cluster.sustained_tflops is not None:
        print_table(console, headline_table())
    if found is not None:
        console.print("# the fastest, as a file of configs/layout")
        console.print(f"{layout_yaml(planned.layout)}\n")
        if len(found.ranked) > 1:
            console.print(why_the_runner_up_lost(found))
    print_lines(console, summary(planned))


app = hydra_app(plan)
