"""`phalanx status run_dir=DIR`: the state of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from configs.errors import InputError
from configs.schema import Run
from launcher.command_line.compose import hydra_app
from launcher.run.jsonl import read_lines
from launcher.run.ownership import owner_of
from launcher.run.run_dir import RunFolder, last_step
from launcher.start.registry import LAUNCHERS
from launcher.start.slurm_job import read_starts


def status(run: Run, _overrides: list[str]) -> None:
    """Prints owner, step, checkpoint, starts, end and job. Raises InputError if there is no run."""
    folder = existing_folder(run)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for line in _lines(run, folder):
        console.print(line)


def existing_folder(run: Run) -> RunFolder:
    """Raises InputError if `run_dir` holds no run."""
    if run.run_dir is None:
        raise InputError("run_dir=null: which run? nearest: run_dir=DIR")
    folder = RunFolder(Path(run.run_dir).expanduser().resolve())
    if not folder.config.exists():
        raise InputError(f"run_dir={run.run_dir}: holds no run")
    return folder


def _lines(run: Run, folder: RunFolder) -> Iterator[str]:
    rows = read_lines(folder.metrics)
    steps = [row for row in rows if "loss" in row]
    yield f"run      {folder.path}"
    owner = owner_of(folder.path)
    if owner:
        yield f"owner    {owner}"
    if steps:
        newest = steps[-1]
        loss = "none" if newest["loss"] is None else f"{newest['loss']:.4f}"
        yield f"step     {newest['step']} of {last_step(run)}, loss {loss}"
    else:
        yield f"step     none of {last_step(run)}"
    yield f"saved    step {folder.saved_step()}" if folder.has_checkpoint() else "saved    nothing"
    starts = read_starts(folder)
    if starts:
        yield f"starts   {len(starts)}, the last on {starts[-1].nodes or 'this machine'}"
    jobs = folder.read_jobs()
    begun = bool(steps or starts or jobs or folder.has_checkpoint() or owner)
    yield f"end      {_end(folder) if begun else 'not started'}"
    if folder.failure.exists() and not folder.done.exists():
        yield f"failure  {folder.failure.read_text(encoding='utf-8').splitlines()[0]}"
    if folder.left_out.exists():
        yield f"without  {folder.left_out.read_text(encoding='utf-8').strip()}"
    for launcher in LAUNCHERS.values():
        yield from launcher.status(folder)


def _end(folder: RunFolder) -> str:
    if folder.done.exists():
        return "done"
    if stopped := folder.stopped_by():
        return f"stopped by {stopped[1]} after step {stopped[0]}"
    return "not yet"


app = hydra_app(status)
