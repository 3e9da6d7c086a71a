"""How long a run stands still when a rank is killed: `python -m benchmarks.checkpoint.restart`.

In each round a rank of a run on this machine's CPU is killed, and `phalanx train` is typed again as
soon as it has ended: seconds until it has, and from there to the first step of the next start.
Nothing waits for a queue, and the model is small, so that reading its checkpoint takes no time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from launcher.run.jsonl import read_lines

SETTINGS = (
    *("model=gpt3_nano", "model.layers=4", "model.hidden=64", "model.heads=4", "model.context=64"),
    *("layout=pp2", "layout.micro_batch=2", "train.global_batch=8", "train.steps=100000"),
    *("train.save_every=5", "train.eval_every=0", "device=cpu", "log.tensorboard=false"),
)
PATIENCE_S = 300


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    noticed, started = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        training = _start(run)
        _first_step_after(0, run, training)
        for _ in range(options.rounds):
            time.sleep(3)
            killed = time.monotonic()
            _a_rank(training).kill()
            training.wait(timeout=PATIENCE_S)
            ended = time.monotonic()
            steps = len(_steps(run))
            training = _start(run)
            _first_step_after(steps, run, training)
            noticed.append(ended - killed)
            started.append(time.monotonic() - ended)
        training.terminate()
        training.wait(timeout=PATIENCE_S)
    for name, seconds in (("the run ends after a kill", noticed), ("its next first step", started)):
        span = f"{min(seconds):.1f} to {max(seconds):.1f}"
        print(f"{name:<28}{statistics.median(seconds):8.1f} s ({span}), {len(seconds)} rounds")


def _start(run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "launcher", "train", *SETTINGS, f"run_dir={run}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _a_rank(training: subprocess.Popen[bytes]) -> psutil.Process:
    """One of its ranks but the first."""
    children = psutil.Process(training.pid).children(recursive=True)
    return next(child for child in children if int(child.environ().get("RANK", 0)) > 0)


def _first_step_after(steps: int, run: Path, training: subprocess.Popen[bytes]) -> None:
    """Waits until more than so many have been logged."""
    end = time.monotonic() + PATIENCE_S
    while len(_steps(run)) <= steps:
        assert training.poll() is None, f"it ended with status {training.returncode}"
        assert time.monotonic() < end, "no step"
        time.sleep(0.05)


def _steps(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    rows = read_lines(path) if path.exists() else []
    return [row["step"] for row in rows if "loss" in row]


if __name__ == "__main__":
    main()
