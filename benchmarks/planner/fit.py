"""Fits the planner's constants to published runs and writes calibration.json.

    python -m benchmarks.planner.fit

All runs are fitted together, as constants.py has it. Residuals are relative errors, robust against
outliers (soft L1 with 5 % as its scale). No row has a constant of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from benchmarks.planner.calibration_file import contents
from benchmarks.planner.constants import Floats, Model, Pair, pair_of
from benchmarks.planner.published import Published, read_table
from parallel.planner.inputs.calibration import Constants, Overheads
from parallel.planner.timing.step import Step

TABLES = ("megatron", "bloom", "vtrain", "mpt_fsdp", "llama")
FOLDER = Path(__file__).parents[1] / "measured"
TARGET = Path(__file__).parents[2] / "parallel" / "planner" / "inputs" / "calibration.json"
SCALE = 0.05  # the relative error from which on a row counts less
PRIOR_WEIGHT = 0.5


def fit(runs: Sequence[Published], evaluations: int = 25) -> tuple[Model, Floats]:
    pairs = sorted({pair_of(run) for run in runs})
    model = Model(pairs)
    rows = {pair: [i for i, run in enumerate(runs) if pair_of(run) == pair] for pair in pairs}

    def errors(x: Floats, pair: Pair) -> Floats:
        constants = model.constants(x, *pair)
        logs = [math.log(seconds(runs[i], constants) / runs[i].measured) for i in rows[pair]]
        scaled = np.array(logs) / SCALE
        return np.asarray(np.sign(scaled) * np.sqrt(2 * (np.sqrt(1 + scaled**2) - 1)))

    def residuals(x: Floats) -> Floats:
        out = np.empty(len(runs))
        for pair in pairs:
            out[rows[pair]] = errors(x, pair)
        return np.concatenate([out, PRIOR_WEIGHT * x])

    def jacobian(x: Floats) -> Floats:
        step, count = 1e-4, len(runs)
        before = {pair: errors(x, pair) for pair in pairs}
        out = np.zeros((count + len(x), len(x)))
        for number in range(len(x)):
            moved = x.copy()
            moved[number] += step
            for pair in model.pairs_of(number):
                out[rows[pair], number] = (errors(moved, pair) - before[pair]) / step
        out[count:] = PRIOR_WEIGHT * np.eye(len(x))
        return out

    start = np.zeros(len(model.names))
    return model, least_squares(residuals, start, jac=jacobian, max_nfev=evaluations).x


def seconds(run: Published, constants: Constants) -> float:
    return Step(run.job, run.machine, constants).time(played=False).seconds


def all_runs() -> list[Published]:
    return [run for name in TABLES for run in read_table(FOLDER / f"{name}.jsonl")]


def fit_overheads(runs: Sequence[Published]) -> dict[str, Overheads]:
    """For each software whose whole GPU was looked at; those of torch's allocator have none."""
    found = {}
    for software in sorted({run.job.software for run in runs}):
        seen = [run for run in runs if run.job.software == software and run.measured_gib]
        whole = [run for run in seen if not run.of_the_allocator]
        if not whole:
            continue

        def errors(x: Floats, whole: list[Published] = whole) -> Floats:
            overheads = Overheads(framework_gib=x[0], activations=x[1])
            return np.array([run.planned_gib(overheads) / (run.measured_gib or 1) for run in whole])

        best = least_squares(lambda x, errors=errors: errors(x) - 1, np.array([3.0, 1.0])).x
        found[software] = Overheads(framework_gib=round(best[0], 2), activations=round(best[1], 3))
    return found


def summary(name: str, errors: Sequence[float]) -> str:
    sizes = np.abs(np.array(errors)) * 100
    return (
        f"{name:<32} {len(sizes):4d} rows: mean {sizes.mean():5.2f} %, median "
        f"{np.median(sizes):5.2f} %, worst {sizes.max():5.1f} %, "
        f"bias {np.mean(errors) * 100:+.1f} %"
    )


def print_tables(runs: Sequence[Published], errors: Sequence[float]) -> None:
    for table in dict.fromkeys(run.table for run in runs):
        held = [error for run, error in zip(runs, errors, strict=True) if run.table == table]
        print(summary(f"{table}.jsonl", held))
    for pair in sorted({pair_of(run) for run in runs}):
        held = [error for run, error in zip(runs, errors, strict=True) if pair_of(run) == pair]
        print(summary("  " + " on ".join(pair), held))


def main() -> None:
    runs = all_runs()
    model, x = fit(runs)
    print_tables(
        runs, [seconds(run, model.constants(x, *pair_of(run))) / run.measured - 1 for run in runs]
    )
    TARGET.write_text(
        json.dumps(contents(model, x, runs, fit_overheads(runs)), indent=1) + "\n", encoding="utf-8"
    )
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
