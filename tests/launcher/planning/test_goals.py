"""Days, dollars and numbers of nodes, as users ask for them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.cli import phalanx

SMALL = ["model=gpt3_1.3b", "cluster=dgx_h100", "precision=bf16", "train.global_batch=512"]
SEARCH = [*SMALL, "optimizer.ramp_tokens=0", "plan.search=true"]


def asked(*overrides: str) -> dict[str, Any]:
    result = phalanx("plan", *SEARCH, *overrides, "format=json")
    assert result.status == 0, result.errors
    report: dict[str, Any] = json.loads(result.output)
    return report


def test_the_fewest_nodes_that_are_in_time_are_planned() -> None:
    report = asked("plan.nodes=1..4", "plan.days=2.5")
    goals = report["goals"]
    assert goals["tried_nodes"] == [2, 3, 4], "at its peak one node would take longer"
    in_time = [each for each in goals["options"] if each["expected_days"] <= 2.5]
    assert goals["chosen_nodes"] == goals["fewest_nodes"] == min(each["nodes"] for each in in_time)
    assert report["world_size"] == 8 * goals["chosen_nodes"]
    chosen = next(each for each in goals["options"] if each["nodes"] == goals["chosen_nodes"])
    assert report["goodput"]["expected_days"] == chosen["expected_days"] <= 2.5
    assert report["goodput"]["expected_dollars"] == chosen["expected_dollars"]
    assert report["layout"] == chosen["layout"]


def test_the_fastest_within_the_money_is_planned_and_shown() -> None:
    result = phalanx("plan", *SEARCH, "plan.nodes=1..4", "plan.dollars=1e5")
    assert result.status == 0, result.errors
    table, lines = result.output.split("\n\n")[:2]
    rows = re.findall(r"^\s+(\d)\*?\s+\S+.*\s([\d.]+)\s+([\d,]+)\s*$", table + lines, re.M)
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    fastest = re.search(r"^fastest  (\d) nodes?: ([\d.]+) days, \$([\d,]+)$", result.output, re.M)
    assert fastest is not None
    best = min(rows, key=lambda row: float(row[1]))
    assert (fastest[1], fastest[3]) == (best[0], best[2])
    assert f"plan for {8 * int(best[0])} ranks" in result.output
    assert max(map(len, result.output.split("plan for")[0].splitlines())) <= 80


def test_what_cannot_be_reached_is_told_with_what_can() -> None:
    refused = phalanx("plan", *SEARCH, "plan.nodes=1..2", "plan.days=1")
    assert (refused.status, refused.output) == (2, "")
    *_, last = refused.errors.splitlines()
    near = re.search(r"nearest: plan\.days=([\d.]+) or plan\.nodes=1\.\.(\d+)$", last)
    assert near is not None, last
    assert last.startswith("phalanx: plan.days=1.0: no layout of model=gpt3_1.3b reaches it on")
    for way in ([f"plan.nodes=1..2 plan.days={near[1]}"], [f"plan.nodes=1..{near[2]} plan.days=1"]):
        assert asked(*way[0].split())["goals"]["chosen_nodes"]


def test_where_halves_would_reach_it_they_are_named() -> None:
    words = [each for each in SEARCH if not each.startswith("precision")]
    result = phalanx("plan", *words, "plan.nodes=1..4", "plan.days=5")
    assert result.status == 2
    assert "nearest: precision=bf16 or plan.days=" in result.errors
    assert phalanx("plan", *SEARCH, "plan.nodes=1..4", "plan.days=5").status == 0


def test_money_that_is_too_little_is_told_with_what_is_enough() -> None:
    refused = phalanx("plan", *SEARCH, "plan.nodes=2", "plan.dollars=100")
    near = re.search(r"nearest: (plan\.dollars=\d+)$", refused.errors.strip())
    assert near is not None, refused.errors
    assert asked("plan.nodes=2", near[1])["goals"]["chosen_nodes"] == 2


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["plan.days=-3"], "plan.days=-3.0: no goal of a training; nearest: plan.days=30"),
        (
            ["plan.nodes=1..99999999"],
            "more than any plan is made for; nearest: plan.nodes=1..65536",
        ),
        (["plan.days=3", "cluster.node_failure_hours=nan"], "cluster.node_failure_hours=nan"),
        (["plan.days=3", "cluster.node_failure_hours=-1"], "nearest: cluster.node_failure_hours"),
        (["plan.days=3", "cluster.grams_co2_per_kwh=inf"], "cluster.grams_co2_per_kwh=inf"),
        (["plan.dollars=0"], "plan.dollars=0.0: no goal of a training; nearest: plan."),
        (
            ["plan.nodes=64..8"],
            "plan.nodes=64..8: it ends before it begins; nearest: plan.nodes=8..",
        ),
        (["plan.nodes=some"], "plan.nodes=some: neither a number of nodes nor a range; nearest: "),
        (
            ["plan.nodes=0..4"],
            "plan.nodes=0..4: nodes are counted from 1; nearest: plan.nodes=1..4",
        ),
        (
            ["plan.days=30", "plan.search=false"],
            "plan.days=30.0: a goal is searched for; nearest: plan.search=true plan.days=30.0",
        ),
        (["plan.days=30", "cluster=local"], "goals are for clusters of GPUs; nearest: cluster="),
        (
            ["plan.dollars=1e5", "cluster.dollars_per_hour=null"],
            "the price of a GPU is not known; nearest: cluster.dollars_per_hour=3",
        ),
        (["plan.nodes=8", "model.heads=7"], "model.heads=7"),
        (["plan.nodes=64", "train.global_batch=7"], "nearest: train.global_batch="),
    ],
)
def test_what_is_no_goal_is_told_in_a_line(overrides: list[str], said: str) -> None:
    refused = phalanx("plan", *SEARCH, *overrides)
    assert (refused.status, refused.output) == (2, "")
    assert said in refused.errors
    assert "Traceback" not in refused.errors


def test_a_goal_of_seconds_is_told_with_days() -> None:
    """Also where the most nodes have no valid layout at all."""
    result = phalanx("plan", "model=gpt3_125m", *SEARCH[1:3], "plan.search=true", "plan.days=0.001")
    assert result.status == 2
    assert "plan.days=0.001: no layout of model=gpt3_125m reaches it" in result.errors
    assert "nearest: plan.days=0." in result.errors
