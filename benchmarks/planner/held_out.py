"""Errors of plans of published runs that the constants were not fitted to, and what follows.

    python -m benchmarks.planner.held_out           # fit without each, print, write held_out.json
    python -m benchmarks.planner.held_out --read    # print the tables of the file that is there

Runs are left out by size (those of one program with the same width and depth), by source, and by
program (all of one program on one GPU: what is known of software that was never measured). From the
errors by size and by program follow the intervals of plans (parallel.planner.inputs.uncertainty);
their coverage is that of each run by intervals which rest on the other groups' errors.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks.planner.calibration_file import NAMES
from benchmarks.planner.constants import pair_of
from benchmarks.planner.fit import all_runs, fit, print_tables, seconds
from benchmarks.planner.published import Published
from parallel.planner.inputs.uncertainty import HeldOut, Traits, held_out, spread

TARGET = Path(__file__).parents[2] / "parallel" / "planner" / "inputs" / "held_out.json"
WAYS = ("size", "source", "program")
FOLDS = 8


def _errors(task: tuple[list[Published], list[Published]]) -> list[float]:
    """Relative errors on runs that the fit has not seen."""
    rest, held = task
    model, x = fit(rest, evaluations=15)
    return [seconds(run, model.constants(x, *pair_of(run))) / run.measured - 1 for run in held]


def groups(runs: Sequence[Published], by: str) -> list[int]:
    """The number of the group with which each run is left out."""
    if by == "program":
        pairs = sorted({pair_of(run) for run in runs})
        return [pairs.index(pair_of(run)) for run in runs]
    if by == "source":
        sources = sorted({str(run.row["source"]) for run in runs})
        return [sources.index(str(run.row["source"])) % (2 * FOLDS) for run in runs]
    # Sizes of one program go into different groups, so that it is never left out as a whole.
    keys = [(pair_of(run), run.job.shape.hidden, run.job.shape.layers) for run in runs]
    sizes = sorted(set(keys))
    return [sizes.index(key) % FOLDS for key in keys]


def cross_validate(runs: Sequence[Published], by: str) -> list[float]:
    """The error of every run by a fit to the others."""
    of = groups(runs, by)
    numbers = sorted(set(of))
    tasks = [
        (
            [run for run, group in zip(runs, of, strict=True) if group != number],
            [run for run, group in zip(runs, of, strict=True) if group == number],
        )
        for number in numbers
    ]
    errors = [0.0] * len(runs)
    with ProcessPoolExecutor(2) as pool:
        for number, held in zip(numbers, pool.map(_errors, tasks), strict=True):
            places = [place for place, group in enumerate(of) if group == number]
            for place, error in zip(places, held, strict=True):
                errors[place] = error
    return errors


def covered(
    runs: Sequence[Published], rows: Sequence[HeldOut], by: str
) -> list[tuple[bool, float]]:
    """Of each run whether its interval held, and the interval's factor, by the others' errors.

    Args:
        by: size, or program: then as if its program had never been measured.
    """
    of = groups(runs, by)
    found = []
    for row, group in zip(rows, of, strict=True):
        others = [other for other, its in zip(rows, of, strict=True) if its != group]
        traits, error = row.traits, row.by_size
        if by == "program":
            traits, error = replace(traits, software="another"), row.by_program
        factor = spread(traits, others).factor
        found.append((abs(error) <= math.log(factor), factor))
    return found


def print_coverage(runs: Sequence[Published], rows: Sequence[HeldOut]) -> None:
    for by in ("size", "program"):
        found = covered(runs, rows, by)
        print(f"runs within their 90 % interval, left out by {by}:")
        names = [run.table for run in runs]
        for name in [*dict.fromkeys(names), "all"]:
            mine = [
                each for each, table in zip(found, names, strict=True) if name in (table, "all")
            ]
            widths = [factor - 1 for _, factor in mine]
            share = np.mean([held for held, _ in mine]) * 100
            print(
                f"{name:<32} {len(mine):4d} rows: {share:5.1f} % held, "
                f"half as wide as {np.median(widths) * 100:.0f} % "
                f"({min(widths) * 100:.0f} to {max(widths) * 100:.0f})"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--read", action="store_true")
    runs = all_runs()
    if not parser.parse_args().read:
        errors = {}
        for by in WAYS:
            errors[by] = cross_validate(runs, by)
            print(f"rows never used in the fit, left out by {by}:")
            print_tables(runs, errors[by])
        _write(runs, errors)
    print_coverage(runs, held_out())


def _write(runs: Sequence[Published], errors: dict[str, list[float]]) -> None:
    rows = [
        {
            "traits": asdict(Traits.of(run.job, NAMES[run.gpu])),
            "by_size": round(math.log1p(by_size), 4),
            "by_program": round(math.log1p(by_program), 4),
        }
        for run, by_size, by_program in zip(runs, errors["size"], errors["program"], strict=True)
    ]
    about = "Written by benchmarks/planner/held_out.py; do not edit."
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    TARGET.write_text(f'{{\n "about": "{about}",\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
