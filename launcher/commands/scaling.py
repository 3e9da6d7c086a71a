"""`phalanx scaling`: fits power laws of loss to finished runs, and predicts another run.

The predicted run is the composed one: `phalanx scaling model=scaling_256`. A finished run of that
model is excluded from the fit, and its loss is shown beside the prediction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.atomic import atomic_file, write_atomic
from configs.errors import InputError
from configs.load import read
from configs.schema import Run
from configs.words import listed
from corpus.sources.sources import expanded
from evals.scaling import AXES, FEWEST, PowerLaw, Prediction, Trained, compute_of, fit
from launcher.command_line.compose import hydra_app
from launcher.console.run_tables import shown
from launcher.console.scaling_tables import draw, laws_table, runs_table
from launcher.console.tables import print_table
from launcher.run.jsonl import read_lines
from launcher.run.run_dir import RunFolder
from models.shape import ModelShape
from parallel.batch_schedule import BatchPlan, steps_of
from parallel.rules import check_ranges

FIGURE, REPORT = "scaling.png", "scaling.json"


def scaling(run: Run, _overrides: list[str]) -> None:
    """Fits the laws, prints them with the prediction, writes a figure and a report."""
    check_ranges(run, ("scaling",))
    folder = expanded("scaling.runs", run.scaling.runs)
    requested = _planned(run)
    found = finished_runs(folder)
    measured = next((it for it in found if it.name == requested.name), None)
    fitted = [it for it in found if it is not measured]
    if len(fitted) < FEWEST:
        names = listed([it.name for it in fitted]) or "none"
        raise InputError(
            f"scaling.runs={run.scaling.runs}: a line needs {FEWEST} finished runs or more beside "
            f"model={requested.name}, there are {names}; nearest: phalanx train experiment=scaling"
        )
    losses = [it.loss for it in fitted]
    laws = {
        axis: fit([of(it) for it in fitted], losses, run.scaling.confidence)
        for axis, (_, of) in AXES.items()
    }
    predicted = laws["compute"].at(requested.compute)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    print_table(console, runs_table(fitted, requested, measured, predicted))
    print_table(console, laws_table(laws, run.scaling.confidence))
    console.print(_verdict(requested, measured, predicted, run.scaling.confidence))
    out = expanded("scaling.out", run.scaling.out) if run.scaling.out else folder
    _write(out, fitted, laws, requested, measured, predicted)
    console.print(f"done: {shown(out / FIGURE)}")


def finished_runs(folder: Path) -> list[Trained]:
    """A folder's finished runs, by compute. Raises InputError if the folder does not exist."""
    if not folder.is_dir():
        raise InputError(
            f"scaling.runs={folder}: there is no such folder; nearest: phalanx train "
            "experiment=scaling"
        )
    found = []
    for path in sorted(folder.iterdir()):
        run = RunFolder(path)
        if run.config.exists() and run.done.exists():
            found.append(_trained(run))
    return sorted((it for it in found if it.curve), key=lambda it: it.compute)


def _trained(folder: RunFolder) -> Trained:
    run = read(folder.config)
    shape = ModelShape.of(run.model)
    rows = read_lines(folder.metrics)
    tokens = {row["step"]: row["tokens"] for row in rows if "tokens" in row}
    curve = tuple(
        (compute_of(shape, tokens[row["step"]]), row["eval_loss"])
        for row in rows
        if "eval_loss" in row and row["step"] in tokens
    )
    return Trained(
        name=run.model.name, shape=shape, tokens=max(tokens.values(), default=0), curve=curve
    )


def _planned(run: Run) -> Trained:
    samples = BatchPlan.of(run).samples_after(steps_of(run))
    shape = ModelShape.of(run.model)
    return Trained(name=run.model.name, shape=shape, tokens=samples * shape.context)


def _verdict(
    requested: Trained, measured: Trained | None, predicted: Prediction, confidence: float
) -> str:
    said = (
        f"{requested.name}: {predicted.loss:.4f} predicted, {predicted.low:.4f} to "
        f"{predicted.high:.4f} with {confidence:.0%}"
    )
    if measured is None:
        return f"{said}; not trained yet"
    inside = "within" if predicted.low <= measured.loss <= predicted.high else "outside"
    off = 100 * (measured.loss / predicted.loss - 1)
    return f"{said}; {measured.loss:.4f} measured, {off:+.2f} %, {inside} it"


def _write(
    out: Path,
    fitted: Sequence[Trained],
    laws: dict[str, PowerLaw],
    requested: Trained,
    measured: Trained | None,
    predicted: Prediction,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "runs": [_row(it) for it in (*fitted, *([measured] if measured else []))],
        "laws": {axis: asdict(law) for axis, law in laws.items()},
        "predicted": {"model": requested.name, "compute": requested.compute, **asdict(predicted)},
    }
    write_atomic(out / REPORT, json.dumps(report, indent=1) + "\n")
    with atomic_file(out / FIGURE) as picture:
        draw(fitted, laws["compute"], requested, measured, predicted, picture)


def _row(run: Trained) -> dict[str, Any]:
    return {
        "model": run.name,
        "parameters": run.parameters,
        "tokens": run.tokens,
        "tokens_per_parameter": run.tokens / run.parameters,
        "compute": run.compute,
        "loss": run.loss,
        "curve": run.curve,
    }


app = hydra_app(scaling)
