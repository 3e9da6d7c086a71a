"""The learning rate's curve, against Megatron-core's scheduler and at its corners."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import RateSchedule
from parallel.batch_schedule import BatchPlan, steps_of
from parallel.lr_schedule import LearningRate
from tests.runs import run_of

RATE = LearningRate(
    peak=6e-4, floor=6e-5, warmup_tokens=400, decay_begins=400, decay_tokens=2000, context=10
)


@pytest.mark.parametrize(
    ("schedule", "style"),
    [
        (RateSchedule.cosine, "cosine"),
        (RateSchedule.linear, "linear"),
        (RateSchedule.constant, "constant"),
        (RateSchedule.wsd, "WSD"),
    ],
)
def test_the_curve_is_megatrons(schedule: RateSchedule, style: str) -> None:
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    rate = RATE
    if schedule is RateSchedule.wsd:
        rate = replace(RATE, schedule=schedule, decay_begins=1700)
    elif schedule is RateSchedule.constant:
        rate = replace(RATE, schedule=schedule, decay_tokens=400, floor=RATE.peak)
    else:
        rate = replace(RATE, schedule=schedule)

    megatron = OptimizerParamScheduler(
        SimpleNamespace(param_groups=[]),
        init_lr=0.0,
        max_lr=RATE.peak,
        min_lr=RATE.floor,
        lr_warmup_steps=RATE.warmup_tokens,
        lr_decay_steps=RATE.decay_tokens,
        lr_decay_style=style,
        wsd_decay_steps=300,
        lr_wsd_decay_style="minus_sqrt",
        start_wd=0.1,
        end_wd=0.1,
        wd_incr_steps=0,
        wd_incr_style="constant",
    )
    for tokens in range(0, 2500, 7):
        assert rate.at(tokens) == pytest.approx(megatron.get_lr({}), rel=1e-12), tokens
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
    rate = LearningRate(
        peak=1.0, floor=0.1, warmup_tokens=0, decay_begins=0, decay_tokens=100, context=1
    )
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


@pytest.mark.parametrize("ramp", ["", "optimizer.ramp_tokens=100000 optimizer.ramp_start=4"])
def test_wsd_is_stable_and_decays_over_its_last_tenth(ramp: str) -> None:
    run = run_of(f"model=gpt3_nano optimizer.schedule=wsd train.steps=100 {ramp}")
    rate = LearningRate.of(run)
    end = BatchPlan.of(run).samples_after(100) * run.model.context
    assert rate.decay_tokens == end
    assert rate.decay_begins == end - end // 10
    assert rate.at(rate.warmup_tokens) == rate.at(rate.decay_begins) == rate.peak
    assert rate.floor < rate.at(rate.decay_begins + end // 20) < rate.peak
    assert rate.at(end) == rate.floor
    annealed = LearningRate.of(
        run_of(f"model=gpt3_nano optimizer.schedule=wsd train.steps=100 {ramp} "
               "optimizer.annealing_tokens=8192")
    )  # fmt: skip
    assert annealed.decay_begins == end - 8192


def test_a_constant_rate_does_not_know_how_long_the_run_is() -> None:
    short, long = (
        LearningRate.of(run_of(f"model=gpt3_nano optimizer.schedule=constant train.steps={steps}"))
        for steps in (50, 500)
    )
    assert short == long
    assert short.at(10**9) == short.peak
