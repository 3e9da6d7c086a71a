"""Fits of power laws, against laws that are known."""

from __future__ import annotations

import math
import random

import pytest

from evals.scaling import PF_DAY, compute_of, fit, parameters_beside_embeddings
from launcher.command_line.compose import compose_run
from models.shape import ModelShape

COMPUTE = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4]


def test_the_papers_law_is_found_again() -> None:
    law = fit(COMPUTE, [2.57 * c**-0.048 for c in COMPUTE])
    assert law.scale == pytest.approx(2.57)
    assert law.exponent == pytest.approx(0.048)
    assert law.exponent_interval == pytest.approx((0.048, 0.048))
    # Figure 3.1 at the compute of table D.1.
    assert law.at(3640).loss == pytest.approx(1.734, abs=5e-4)
    assert law.at(2.6).low == pytest.approx(law.at(2.6).high)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator = random.Random(0)
    inside_law = inside_run = 0
    rounds = 400
    for _ in range(rounds):
        losses = [3 * c**-0.05 * math.exp(generator.gauss(0, 0.01)) for c in COMPUTE]
        law = fit(COMPUTE, losses, confidence=0.9)
        inside_law += law.exponent_interval[0] < 0.05 < law.exponent_interval[1]
        one_more = 3 * 1e-3**-0.05 * math.exp(generator.gauss(0, 0.01))
        predicted = law.at(1e-3)
        inside_run += predicted.low < one_more < predicted.high
    assert inside_law / rounds == pytest.approx(0.9, abs=0.05)
    assert inside_run / rounds == pytest.approx(0.9, abs=0.05)


def test_compute_is_the_papers_but_for_embeddings() -> None:
    shape = ModelShape.of(compose_run(["model=gpt3_175b"]).model)
    assert parameters_beside_embeddings(shape) == 96 * (12 * 12288**2 + 13 * 12288) + 2 * 12288
    assert compute_of(shape, 300e9) == pytest.approx(3.14e23 / PF_DAY, rel=0.01)
