"""What is allowed and told to be of no use; the shipped layouts take their own advice."""

from __future__ import annotations

import json

import pytest

from configs.describe import choices
from parallel.advice import advice
from parallel.layout import Layout
from tests.cli import phalanx
from tests.runs import run_of


@pytest.mark.parametrize("name", sorted(choices("layout")))
def test_no_shipped_layout_needs_advice(name: str) -> None:
    run = run_of(f"layout={name}")
    assert advice(run, Layout.resolve(run.layout, None)) == []


@pytest.mark.parametrize(
    ("settings", "nearest"),
    [
        ("layout.recompute=selective", "layout.recompute=none"),
        ("cuda.bf16_gradients=true layout.zero=0", "layout.zero=1"),
    ],
)
def test_a_setting_that_costs_more_than_it_gives(settings: str, nearest: str) -> None:
    run = run_of(f"layout=dp2 precision=bf16 {settings}")
    (line,) = advice(run, Layout.resolve(run.layout, None))
    assert line.startswith(settings.split()[0])
    assert f"nearest: {nearest}" in line


def test_scales_that_a_restart_forgets_are_told() -> None:
    run = run_of("layout=dp2 precision=fp8 cuda.fp8_scaling=delayed")
    assert "cuda.fp8_scaling=current" in advice(run, Layout.resolve(run.layout, None))[0]


def test_a_dry_run_of_fp8_says_what_it_does_not_know() -> None:
    run = run_of("layout=dp2 precision=fp8")
    (line,) = advice(run, Layout.resolve(run.layout, None))
    assert line.startswith("precision=fp8: a dry run counts the memory of bf16")


def test_plan_tells_it_to_people_and_to_scripts() -> None:
    asked = ("plan", "model=gpt3_1.3b", "layout=gpt3_1.3b", "cluster=dgx_a100", "precision=bf16")
    selective = "layout.recompute=selective"
    assert f"{selective}: attention keeps no scores" in phalanx(*asked, selective).output
    said = json.loads(phalanx(*asked, selective, "format=json").output)
    assert said["advice"][0].startswith(selective)
    assert json.loads(phalanx(*asked, "format=json").output)["advice"] == []
