"""Days and dollars, and the numbers that are told of GPT-3."""

from __future__ import annotations

import pytest

from parallel.batch_schedule import BatchPlan, steps_of
from parallel.planner.cost import training_cost
from parallel.planner.report.gpt3_figures import headline, petaflop_days_of_all
from tests.runs import run_of


def test_a_run_costs_its_steps() -> None:
    run = run_of("model=gpt3_125m cluster=dgx_a100 train.steps=1000 optimizer.ramp_tokens=0")
    cost = training_cost(run, 8, lambda size: 2.0)
    assert cost.seconds == 2000
    assert cost.days == pytest.approx(2000 / 86400)
    assert cost.gpu_hours == pytest.approx(8 * 2000 / 3600)
    assert cost.dollars == pytest.approx(cost.gpu_hours * 2.0)


def test_steps_of_the_ramp_cost_their_own_size() -> None:
    run = run_of("model=gpt3_125m cluster=dgx_a100")
    cost = training_cost(run, 8, lambda size: float(size))
    steps = steps_of(run)
    assert cost.seconds == BatchPlan.of(run).samples_after(steps)
    assert cost.tokens >= run.model.recipe.tokens


@pytest.mark.parametrize("line", [*headline(), *petaflop_days_of_all()], ids=lambda line: line.what)
def test_what_is_told_comes_out(line: object) -> None:
    def number(text: str) -> float:
        words = text.replace("$", "").replace("M", "").replace("GB", "").split()
        return float(words[0])

    published, computed = number(line.published), number(line.computed)  # type: ignore[attr-defined]
    assert computed == pytest.approx(published, rel=0.02)
