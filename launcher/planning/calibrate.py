"""`phalanx plan calibrate`: fits the planner's constants to the measured steps of finished runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from configs.errors import InputError
from configs.override import override
from configs.schema import DeviceName, Run
from configs.words import listed
from launcher.console.calibration_table import calibration_table
from launcher.console.tables import print_lines, print_table
from launcher.run.jsonl import read_lines
from launcher.run.run_dir import RunFolder
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.calibrate import Measured, error, fitted, left_out
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.own import SHIPPED, Own, path_of, shape_settings, write_own

SETTLED = 3  # steps of each run that are left out: the first are slow
NEEDED = 3  # steps after them
SHORTEST, LONGEST = 1e-6, 1e6  # seconds that a step may take
APART = 0.25
"""Of a run's time that the constants are off by after the fit, from which on a warning is given."""


def calibrate(run: Run) -> None:
    """Fits, shows each run's error before and after, and writes the file.

    Raises InputError for folders that are no finished runs on GPUs, or runs of several models or
    machines.
    """
    paths = {Path(each).expanduser().resolve(): each for each in run.plan.runs or []}
    folders = [RunFolder(Path(each).expanduser()) for each in paths.values()]
    if not folders:
        raise InputError(
            "plan.runs=[]: of which runs is not said; nearest: phalanx plan calibrate "
            "run_dir=[runs/ONE,runs/ANOTHER]"
        )
    path = path_of(run.plan.calibration)
    if path is None:
        raise InputError(
            f"{override('plan.calibration', SHIPPED)}: is what comes with Phalanx; nearest: "
            f"{override('plan.calibration', 'calibration.json')}"
        )
    settings = [_settings(folder, run) for folder in folders]
    _require_one(settings, folders)
    machine = machine_of(settings[0].cluster)
    published = calibrated(settings[0].cluster.software, machine.gpu)
    runs = [
        Measured(
            name=str(folder.path),
            job=Job.of(its, Layout.resolve(its.layout, None)),
            machine=machine,
            seconds=_seconds(folder),
        )
        for folder, its in zip(folders, settings, strict=True)
    ]
    constants = fitted(runs, published.constants)
    out = left_out(runs, published.constants)
    count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
    model = settings[0].model
    entry = Own(
        model=model.name,
        shape=shape_settings(ModelShape.of(model)),
        gpu=machine.gpu,
        basis=f"{count} of ours of {model.name} on {machine.gpu}",
        constants=constants,
        errors=tuple(round(each, 4) for each in out),
    )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    before = [error(each, published.constants) for each in runs]
    after = [error(each, constants) for each in runs]
    print_table(console, calibration_table(runs, before, after, out))
    write_own(path, entry)
    unlike = [each.name for each, off in zip(runs, after, strict=True) if abs(off - 1) > APART]
    if unlike:
        print_lines(
            console,
            f"{listed(unlike)}: no constants suit all of these runs; plans that rest on them have "
            "wide intervals. What else differs between them?",
        )
    print_lines(
        console,
        f"wrote {path}: plans of {model.name} on {machine.gpu} rest on {count} of yours;\n"
        f"{override('plan.calibration', SHIPPED)} plans without them",
    )


def _settings(folder: RunFolder, asked: Run) -> Run:
    """A run's settings, on the cluster that was asked for if it names none itself."""
    if not folder.config.is_file():
        raise InputError(
            f"run_dir={folder.path}: is no run of phalanx train; nearest: "
            "phalanx status run_dir=runs/MINE tells of one"
        )
    run = folder.resolved()
    if run.cluster.gpu is None and asked.cluster.gpu is not None:
        run = replace(run, cluster=asked.cluster)
    if run.device is not DeviceName.cuda:
        raise InputError(
            f"run_dir={folder.path}: ran on {run.device}, whose plans are measured on the spot; "
            "nearest: a run on GPUs"
        )
    if run.cluster.gpu is None:
        raise InputError(
            f"run_dir={folder.path}: its cluster names no GPU (cluster={run.cluster.name}); "
            "nearest: cluster=dgx_h100, or the one that it ran on"
        )
    return run


def _require_one(settings: Sequence[Run], folders: Sequence[RunFolder]) -> None:
    """Raises InputError if the runs are not of one model on one machine."""
    first = settings[0]
    shape = shape_settings(ModelShape.of(first.model))
    for run, folder in zip(settings, folders, strict=True):
        other = None
        if shape_settings(ModelShape.of(run.model)) != shape:
            other = f"trained {run.model.name}, {folders[0].path} {first.model.name}"
        elif run.cluster.gpu != first.cluster.gpu:
            other = f"ran on {run.cluster.gpu}, {folders[0].path} on {first.cluster.gpu}"
        if other is not None:
            same = [
                str(each.path)
                for its, each in zip(settings, folders, strict=True)
                if shape_settings(ModelShape.of(its.model)) == shape
                and its.cluster.gpu == first.cluster.gpu
            ]
            raise InputError(
                f"run_dir={folder.path}: {other}; nearest: run_dir=[{listed(same, apart=',')}]"
            )


def _seconds(folder: RunFolder) -> float:
    """The median of the settled steps with a whole batch."""
    rows = read_lines(folder.metrics) if folder.metrics.exists() else []
    timed = [row["step_time_s"] for row in rows if _is_timed(row)][SETTLED:]
    if len(timed) < NEEDED:
        raise InputError(
            f"run_dir={folder.path}: has {len(timed)} timed steps after the first {SETTLED}, too "
            f"few; nearest: train.steps={SETTLED + NEEDED}"
        )
    return statistics.median(timed)


def _is_timed(row: object) -> bool:
    """Whether a line is of a step with a whole batch, which took a time that can be."""
    if not isinstance(row, dict) or not row.get("tokens_per_s"):
        return False
    seconds = row.get("step_time_s")
    return isinstance(seconds, int | float) and SHORTEST < seconds < LONGEST
