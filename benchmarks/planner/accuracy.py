"""How far the planner's step times are from published ones, row by row.

    python -m benchmarks.planner.accuracy benchmarks/measured/megatron.jsonl [more tables]

The constants are those of calibration.json, fitted on benchmarks/measured (benchmarks.planner.fit
--check tells the errors on rows that a fit has not seen). Memory is compared where a row states it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.planner.published import Published, read_table
from parallel.planner.inputs.calibration import Calibrated, calibrated
from parallel.planner.inputs.job import OURS
from parallel.planner.timing.step import Step

# Calculon with its own A100-80GB figures on the same rows: covered, mean, worst (percent). It is
# the most accurate of the planners that publish one; it has no answer for ZeRO 3.
CALCULON = {
    "megatron": "37 of 46 rows, mean 15.2 %, worst 42 %",
    "bloom": "68 of 71 rows, mean 30.5 %, worst 47 %",
    "vtrain": "62 of 62 rows, mean 16.0 %, worst 70 %",
    "mpt_fsdp": "no answer: it does not plan ZeRO 3",
}


def calibration(run: Published) -> Calibrated:
    """Of the run's software on its GPU; of software that was not measured there, the default's."""
    try:
        return calibrated(run.job.software, run.machine.gpu)
    except KeyError:
        return calibrated(OURS, run.machine.gpu)


def predicted(run: Published) -> float:
    """Seconds of a step, the schedule played through."""
    constants = calibration(run).constants
    return Step(run.job, run.machine, constants).time().seconds


def line(run: Published, error: float) -> str:
    job = run.job
    return (
        f"{run.row['id']:<46} {job.layout!s:>10} b{job.layout.micro_batch:<3} {run.measured:9.3f} s"
        f" {run.measured * (1 + error):9.3f} s {error * 100:+6.1f} %  {job.software}"
    )


def print_memory(name: str, runs: list[Published]) -> None:
    errors = []
    for run in runs:
        if run.measured_gib:
            overheads = calibration(run).overheads
            errors.append(run.planned_gib(overheads) / run.measured_gib - 1)
            print(
                f"{run.row['id']:<46} {run.job.layout!s:>10} b{run.job.layout.micro_batch:<3}"
                f" {run.measured_gib:7.1f} GiB {run.planned_gib(overheads):7.1f} GiB"
                f" {errors[-1] * 100:+6.1f} %"
            )
    if errors:
        sizes = np.abs(np.array(errors)) * 100
        print(
            f"{name}: peak memory of {len(sizes)} rows, absolute error mean {sizes.mean():.2f} %, "
            f"median {np.median(sizes):.2f} %, worst {sizes.max():.1f} %"
        )


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    for name in sys.argv[1:]:
        path = Path(name)
        runs = read_table(path)
        errors = [predicted(run) / run.measured - 1 for run in runs]
        print(f"{path.name}: run, tensor x pipeline x interleave x data, measured, planned, error")
        for run, error in zip(runs, errors, strict=True):
            print(line(run, error))
        sizes = np.abs(np.array(errors)) * 100
        print(
            f"{path.name}: {len(runs)} rows, absolute error mean {sizes.mean():.2f} %, "
            f"median {np.median(sizes):.2f} %, worst {sizes.max():.1f} %"
        )
        print_memory(path.name, runs)
        if path.stem in CALCULON:
            print(f"{path.name}: Calculon {CALCULON[path.stem]}")
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
