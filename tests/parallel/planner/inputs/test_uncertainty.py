"""Intervals of step times: what they rest on, and that they hold."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.planner.calibration_file import NAMES
from benchmarks.planner.fit import all_runs
from benchmarks.planner.held_out import covered
from parallel.planner.inputs.uncertainty import HeldOut, Traits, held_out, spread

LLAMA = Traits(
    software="nemo", gpu="H100", fused_attention=True, parameters=33.0, kinds=(True,) * 7
)


def rows(count: int, error: float, **other: object) -> list[HeldOut]:
    draw = random.Random(1)
    traits = replace(LLAMA, **other)  # type: ignore[arg-type]
    errors = [draw.gauss(0, error) for _ in range(count)]
    return [HeldOut(traits=traits, by_size=each, by_program=3 * each) for each in errors]


def test_runs_like_it_tell_how_wide_an_interval_is() -> None:
    near, far = rows(200, 0.02), rows(200, 0.2, gpu="A100", software="megatron-lm-2021")
    alike = spread(LLAMA, [*near, *far])
    apart = spread(replace(LLAMA, gpu="A100", software="megatron-lm-2021"), [*near, *far])
    assert alike.factor < apart.factor / 1.1
    # Nine in ten of errors of a standard deviation of 2 % are within 3.3 %.
    assert spread(LLAMA, near).factor == pytest.approx(math.exp(1.645 * 0.02), rel=0.01)


def test_a_program_that_was_never_measured_is_less_sure() -> None:
    known = rows(200, 0.02)
    never = spread(replace(LLAMA, software="another"), known)
    assert math.log(never.factor) == pytest.approx(
        3 * math.log(spread(LLAMA, known).factor), rel=0.01
    )
    # Its own runs make it one that was.
    own = spread(replace(LLAMA, software="another"), known, own=[1.01, 0.99])
    assert own.factor < never.factor
    # They are believed also where constants that suit some of them do not suit the others.
    apart = spread(replace(LLAMA, software="another"), known, own=[1.01, 0.5])
    assert apart.factor == pytest.approx(2.0)


def test_few_runs_promise_no_more_than_their_worst() -> None:
    few = rows(3, 0.1)
    assert spread(LLAMA, few).factor == pytest.approx(
        math.exp(max(abs(row.by_size) for row in few))
    )


def test_the_published_runs_are_those_of_the_tables() -> None:
    runs = all_runs()
    traits = [Traits.of(run.job, NAMES[run.gpu]) for run in runs]
    assert [row.traits for row in held_out()] == traits, "run benchmarks.planner.held_out again"


@pytest.mark.parametrize("by", ["size", "program"])
def test_nine_in_ten_of_held_out_runs_lie_within_their_interval(by: str) -> None:
    """By intervals that rest on the other groups' errors alone."""
    runs = all_runs()
    found = covered(runs, held_out(), by)
    assert np.mean([held for held, _ in found]) >= 0.9
    of_today = [each for each, run in zip(found, runs, strict=True) if run.table == "llama"]
    assert np.mean([held for held, _ in of_today]) >= 0.9
