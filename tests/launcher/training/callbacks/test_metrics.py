from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from launcher.run.jsonl import read_lines
from launcher.training.callbacks.callback import StepRecord
from launcher.training.callbacks.metrics import MetricsFile

RECORD = StepRecord(
    step=1,
    loss=2.0,
    grad_norm=1.0,
    learning_rate=1e-3,
    samples=8,
    tokens=256,
    step_time_s=0.5,
    tokens_per_s=512.0,
    tflops=0.1,
    mfu=None,
    memory_gib=0.2,
    loss_scale=1.0,
    skipped=False,
)


def record_steps(path: Path, first: int, last: int, after_step: int) -> None:
    metrics = MetricsFile(path, after_step=after_step)
    for step in range(first, last + 1):
        metrics.after_step(replace(RECORD, step=step))
        metrics.after_evaluation(step, 3.0)
    metrics.at_end()


def test_each_step_is_there_once_however_often_it_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    record_steps(path, 1, 5, after_step=0)
    record_steps(path, 4, 6, after_step=3)
    steps = [(row["step"], "loss" in row) for row in read_lines(path)]
    assert steps == [(step, kind) for step in range(1, 7) for kind in (True, False)]


def test_half_a_line_of_a_killed_run_goes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    record_steps(path, 1, 2, after_step=0)
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    record_steps(path, 3, 3, after_step=2)
    assert [row["step"] for row in read_lines(path)] == [1, 1, 2, 2, 3, 3]


def test_json_knows_no_infinity(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, after_step=0)
    metrics.after_step(replace(RECORD, grad_norm=math.inf, loss=math.nan))
    metrics.at_end()
    row = json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
    assert row["grad_norm"] is None
    assert row["loss"] is None
