"""The plan against published runs: the errors that the README promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.planner.accuracy import predicted
from benchmarks.planner.published import read_table
from parallel.planner.inputs.calibration import calibrated

TABLES = Path(__file__).parents[3] / "benchmarks" / "measured"


@pytest.mark.parametrize(
    ("table", "mean"),
    [
        ("megatron", 0.021),
        ("bloom", 0.036),
        ("vtrain", 0.064),
        ("mpt_fsdp", 0.029),
        ("llama", 0.03),
    ],
)
def test_step_times(table: str, mean: float) -> None:
    runs = read_table(TABLES / f"{table}.jsonl")
    errors = np.array([abs(predicted(run) / run.measured - 1) for run in runs])
    assert errors.mean() <= mean + 0.0005  # quoted to a tenth of a percent
    # Three of vTrain's runs are far from all others like them (see benchmarks/README.md).
    assert (errors > 0.25).sum() <= (3 if table == "vtrain" else 0)


@pytest.mark.parametrize(("table", "mean"), [("bloom", 0.1), ("megatron", 0.1)])
def test_peak_memory(table: str, mean: float) -> None:
    runs = [run for run in read_table(TABLES / f"{table}.jsonl") if run.measured_gib]
    assert len(runs) >= 5
    planned = [
        run.planned_gib(calibrated(run.job.software, run.machine.gpu).overheads) for run in runs
    ]
    errors = [abs(p / (run.measured_gib or 1) - 1) for p, run in zip(planned, runs, strict=True)]
    assert np.mean(errors) <= mean


def test_every_row_of_the_tables_is_planned() -> None:
    for path in TABLES.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        # Two of llama.jsonl state neither a step's time nor tokens a second.
        timed = [row for row in rows if row["step_time_s"] or row.get("tokens_per_s_per_gpu")]
        assert len(read_table(path)) == len(timed) >= len(rows) - 2 * (path.stem == "llama")
