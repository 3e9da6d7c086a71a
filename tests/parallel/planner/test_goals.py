"""Which numbers of nodes are tried, and what is best of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from parallel.planner.goals import FEW, Option, Reached, least_nodes, numbers_of_nodes
from parallel.planner.inputs.cluster import machine_of
from tests.runs import run_of


@dataclass(frozen=True)
class Tried:
    """An option's figures."""

    nodes: int
    days: float
    dollars: float | None


def reached(*tried: tuple[int, float, float | None], **goals: Any) -> Reached:
    options = [cast(Option, Tried(*each)) for each in tried]
    return Reached(options=options, tried=[each[0] for each in tried], **goals)


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [
        (8, 8, [8]),
        (3, 7, [3, 4, 5, 6, 7]),
        (8, 64, [8, 12, 16, 24, 32, 48, 64]),
        (5, 100, [5, 8, 16, 32, 64, 100]),
        (1, 64, [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_numbers_of_nodes_are_few_and_reach_both_ends(
    low: int, high: int, numbers: list[int]
) -> None:
    assert numbers_of_nodes(low, high) == numbers
    assert len(numbers) <= FEW


FOUR = [(8, 40.0, 100.0), (16, 21.0, 104.0), (32, 12.0, 120.0), (64, 12.5, 250.0)]


def test_a_goal_in_days_takes_the_fewest_nodes() -> None:
    found = reached(*FOUR, days=30.0)
    assert found.chosen is found.fewest is found.cheapest is found.options[1]
    assert found.fastest is found.options[2]
    assert found.front == found.options[:3]


def test_a_goal_in_dollars_takes_the_fastest() -> None:
    found = reached(*FOUR, dollars=110.0)
    assert found.chosen is found.fastest is found.options[1]
    assert found.cheapest is found.fewest is found.options[0]
    assert reached(*FOUR, dollars=110.0, days=20.0).chosen is None


def test_without_prices_there_is_no_cheapest() -> None:
    found = reached((8, 40.0, None), (16, 21.0, None), (32, 22.0, None))
    assert found.cheapest is None
    assert found.chosen is found.options[1]
    assert found.front == found.options[:2]


def test_fewer_nodes_than_those_at_their_peak_are_never_in_time() -> None:
    """6 N D of a GPT-3 13B on 300B tokens, at 989.4 TFLOPS a GPU."""
    run = run_of("model=gpt3_13b cluster=dgx_h100 precision=bf16")
    nodes = least_nodes(run, machine_of(run.cluster), 5.0)
    rough = 6 * 12.85e9 * 300e9 / (8 * 989.4e12 * 5 * 86_400)
    assert rough <= nodes <= 1.3 * rough + 1
