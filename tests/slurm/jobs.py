"""Jobs of the tests' SLURM: how they are submitted, watched and compared."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.override import override
from launcher.run.jsonl import read_lines
from launcher.run.run_dir import RunFolder
from tests.cli import TINY, phalanx

ON_TWO_NODES = ["launch=slurm", "device=cpu", "cluster.nodes=2", "launch.grace_s=30"]
FOUR_RANKS = [*ON_TWO_NODES, "cluster.gpus_per_node=2", "layout=tp2_pp2"]
# Sums over a core's threads are in another order than one thread's, in the last digit.
TWO_RANKS = [*ON_TWO_NODES, "cluster.gpus_per_node=1", "layout=pp2"]
TWO_RANKS += ['launch.setup=["export OMP_NUM_THREADS=1"]']
RARELY = ["train.save_every=40", "train.eval_every=25", "train.keep_checkpoints=0"]
SAME = ("loss", "grad_norm", "learning_rate", "samples", "tokens", "eval_loss")
WITHIN_S = 300


def wait_for(holds: Callable[[], object], run: Path, what: str) -> None:
    until = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > until:
            pytest.fail(f"waited {WITHIN_S} s for {what}; the job said:\n{said(run)}")
        time.sleep(0.1)


def said(run: Path) -> str:
    return "\n".join(path.read_text() for path in sorted((run / "logs").glob("slurm-*.out")))


def submitted(run: Path, *overrides: str) -> int:
    """Prepares the text and submits; the job's number."""
    prepared = phalanx("prepare", *TINY)
    assert prepared.status == 0, prepared.errors
    result = phalanx("train", *TINY, *overrides, run_dir=run)
    assert result.status == 0, result.errors
    assert "submitted: job" in result.output
    return RunFolder(run).read_jobs()[-1]


def last_step(run: Path) -> int:
    path = run / "metrics.jsonl"
    return max((row["step"] for row in read_lines(path)), default=0) if path.exists() else 0


def starts(run: Path) -> list[dict[str, Any]]:
    path = run / "starts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_start(number: int, run: Path) -> None:
    wait_for(lambda: len(starts(run)) == number, run, f"start {number}")


def wait_for_progress(number: int, run: Path) -> None:
    """The start is under way, and has saved something new."""
    wait_for_start(number, run)
    before = starts(run)[-1]["saved"]
    wait_for(lambda: RunFolder(run).saved_step() > before, run, "a checkpoint")


def wait_for_steps(run: Path) -> None:
    """The newest start has taken one. Rows of the start before are dropped when it goes on."""
    begun, saved = starts(run)[-1]["time"], starts(run)[-1]["saved"]
    metrics = run / "metrics.jsonl"

    def taken() -> bool:
        return metrics.exists() and metrics.stat().st_mtime > begun and last_step(run) > saved

    wait_for(taken, run, "a step")


def ranks_of(run: Path) -> list[psutil.Process]:
    return processes_of(run, "-u")  # as torchrun starts them


def agents_of(run: Path) -> list[psutil.Process]:
    return processes_of(run, "launcher.start.torchrun_node")


def processes_of(run: Path, word: str) -> list[psutil.Process]:
    """Those of the newest start that have this word among their arguments."""
    # The kernel counts from its start, and clocks are set: two seconds off is not unheard of.
    found, begun = [], max((start["time"] for start in starts(run)), default=0.0) - 3
    for process in psutil.process_iter(["cmdline", "create_time", "status"]):
        words = process.info["cmdline"] or []
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        of_it = alive and process.info["create_time"] > begun
        if of_it and word in words and override("run_dir", str(run)) in words:
            found.append(process)
    return found


def same_rows(run: Path) -> list[dict[str, Any]]:
    """What a run's metrics say but for time and memory."""
    rows = read_lines(run / "metrics.jsonl")
    return [{key: row[key] for key in ("step", *SAME) if key in row} for row in rows]


def undisturbed_run(folder: Path, *overrides: str) -> Path:
    """The same run on this machine, without SLURM."""
    run = folder / "undisturbed"
    result = phalanx("train", *TINY, *overrides, run_dir=run)
    assert result.status == 0, result.errors
    return run
