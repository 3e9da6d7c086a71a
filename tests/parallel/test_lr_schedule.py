"""The learning rate's curve, against Megatron-core's scheduler and at its corners."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel.batch_schedule import BatchPlan, steps_of
from parallel.lr_schedule import LearningRate
from tests.runs import run_of

RATE = LearningRate(peak=6e-4, floor=6e-5, warmup_tokens=400, decay_tokens=2000, context=10)


def test_the_curve_is_megatrons() -> None:
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    megatron = OptimizerParamScheduler(
        SimpleNamespace(param_groups=[]),
        init_lr=0.0,
        max_lr=RATE.peak,
        min_lr=RATE.floor,
        lr_warmup_steps=RATE.warmup_tokens,
        lr_decay_steps=RATE.decay_tokens,
        lr_decay_style="cosine",
        start_wd=0.1,
        end_wd=0.1,
        wd_incr_steps=0,
        wd_incr_style="constant",
    )
    for tokens in range(0, 2500, 7):
        assert RATE.at(tokens) == pytest.approx(megatron.get_lr({}), rel=1e-12), tokens
        megatron.step(7)


def test_the_first_step_learns_and_the_warmup_ends_at_the_peak() -> None:
    assert RATE.of_step(0, 4) == pytest.approx(RATE.peak / 10)
    assert RATE.of_step(36, 4) == RATE.peak
    assert RATE.of_step(40, 4) < RATE.peak


def test_the_cosine_ends_at_the_floor_and_stays_there() -> None:
    assert RATE.at(1200) == pytest.approx((RATE.peak + RATE.floor) / 2)
    assert RATE.at(2000) == RATE.at(10**12) == RATE.floor


@given(st.integers(0, 3000))
def test_up_during_the_warmup_and_down_after(tokens: int) -> None:
    now, later = RATE.at(tokens), RATE.at(tokens + 1)
    assert now < later if tokens < RATE.warmup_tokens else now >= later
    assert 0 <= now <= RATE.peak


@given(st.integers(1, 60), st.integers(1, 40))
def test_the_batch_size_does_not_shift_the_curve(samples: int, batch: int) -> None:
    assert RATE.of_step(samples, batch) == RATE.of_step(samples + batch - 1, 1)


def test_without_a_warmup_the_peak_comes_first() -> None:
    rate = LearningRate(peak=1.0, floor=0.1, warmup_tokens=0, decay_tokens=100, context=1)
    assert rate.at(0) == 1.0
    assert rate.at(1) < 1.0


def test_without_decay_tokens_the_decay_ends_with_the_run() -> None:
    run = run_of("model=gpt3_nano")
    rate = LearningRate.of(run)
    assert rate.decay_tokens == run.model.recipe.tokens
    assert rate.peak == run.model.recipe.learning_rate
    last = BatchPlan.of(run).samples_after(steps_of(run) - 1)
    assert rate.of_step(last, 16) == rate.floor == pytest.approx(rate.peak / 10)


def test_a_run_shorter_than_its_warmup_only_warms_up() -> None:
    recipe = "model.recipe.warmup_tokens=81920"  # 20 steps of 16 samples of 256 tokens
    rate = LearningRate.of(run_of(f"model=gpt3_nano {recipe} train.steps=5"))
    assert [rate.of_step(16 * step, 16) for step in range(5)] == pytest.approx(
        [rate.peak * (step + 1) / 20 for step in range(5)]
    )


def test_stopping_early_leaves_the_schedule_as_it_was() -> None:
    stopped = run_of("model=gpt3_nano train.stop_after=5")
    assert LearningRate.of(stopped) == LearningRate.of(run_of("model=gpt3_nano"))
