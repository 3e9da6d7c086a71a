"""The batch ramp-up: what each step reads, and the way back from samples to steps."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel.batch_schedule import BatchPlan, steps_of
from tests.runs import run_of

GPT3 = BatchPlan(global_batch=1600, ramp_start=16, ramp_tokens=12_000_000_000, context=2048)
CONSTANT = BatchPlan(global_batch=16, ramp_start=16, ramp_tokens=0, context=256)


@st.composite
def plans(draw: st.DrawFn) -> BatchPlan:
    start = draw(st.integers(1, 8))
    return BatchPlan(
        global_batch=start * draw(st.integers(1, 12)),
        ramp_start=start,
        ramp_tokens=draw(st.integers(0, 20_000)),
        context=draw(st.sampled_from([1, 7, 64])),
    )


def walked(plan: BatchPlan, steps: int) -> list[int]:
    """Samples after each step, found by taking the steps one by one."""
    return list(
        accumulate(range(steps), lambda samples, _: samples + plan.size_at(samples), initial=0)
    )


@given(plans(), st.integers(0, 300))
def test_samples_after_steps_is_the_sum_of_the_steps(plan: BatchPlan, steps: int) -> None:
    assert [plan.samples_after(step) for step in range(steps + 1)] == walked(plan, steps)


@given(plans(), st.integers(0, 300))
def test_steps_for_is_the_inverse(plan: BatchPlan, steps: int) -> None:
    after = walked(plan, steps)
    assert [plan.steps_for(samples) for samples in after] == list(range(steps + 1))
    # One sample more than a step left needs the next step.
    assert plan.steps_for(after[-1] + 1) == steps + 1


@given(plans(), st.integers(0, 10**6))
def test_the_batch_never_shrinks_and_ends_full(plan: BatchPlan, samples: int) -> None:
    sizes = plan.sizes()
    assert plan.size_at(samples) in sizes
    assert plan.size_at(samples) <= plan.size_at(samples + 1)
    assert all(small < large for small, large in pairwise(sizes))
    assert plan.size_at(plan.ramp_samples) == sizes[-1] == plan.global_batch


@given(plans())
def test_the_sizes_are_equal_increments(plan: BatchPlan) -> None:
    if plan.ramp_samples:
        assert plan.sizes() == list(range(plan.ramp_start, plan.global_batch + 1, plan.ramp_start))
    else:
        assert plan.sizes() == [plan.global_batch]


def test_without_a_ramp_every_step_is_full() -> None:
    assert CONSTANT.sizes() == [16]
    assert CONSTANT.samples_after(200) == 3200
    assert CONSTANT.steps_for(3200) == 200
    assert CONSTANT.steps_for(3201) == 201


def test_gpt3_grows_linearly_over_the_first_12_billion_tokens() -> None:
    assert GPT3.size_at(0) * GPT3.context == 32_768
    assert GPT3.size_at(GPT3.ramp_samples // 2) == 800
    assert GPT3.size_at(GPT3.ramp_samples - 1) < 1600
    assert GPT3.size_at(GPT3.ramp_samples) == 1600
    assert len(list(GPT3.phases())) == len(GPT3.sizes()) == 100
    steps = GPT3.steps_for(300_000_000_000 // GPT3.context)
    assert GPT3.samples_after(steps - 1) < 300_000_000_000 // GPT3.context
    assert GPT3.samples_after(steps) >= 300_000_000_000 // GPT3.context


def test_the_ramp_is_megatrons() -> None:
    from megatron.core.num_microbatches_calculator import RampupBatchsizeNumMicroBatchesCalculator

    plan = BatchPlan(global_batch=48, ramp_start=8, ramp_tokens=64_000, context=64)
    megatron = RampupBatchsizeNumMicroBatchesCalculator(48, 1, 1, False, 1, 8, 8, 1000)
    for samples in range(1200):
        megatron.update(samples, consistency_check=True)
        assert plan.size_at(samples) == megatron.get_current_global_batch_size(), samples


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ("model=gpt3_nano", 150),
        ("model=gpt3_nano train.steps=7", 7),
        ("model=gpt3_nano model.recipe.tokens=819201", 201),
    ],
)
def test_a_run_has_the_steps_asked_for_or_its_recipes_tokens(overrides: str, steps: int) -> None:
    assert steps_of(run_of(overrides)) == steps


@pytest.mark.parametrize(
    "wrong", [{"global_batch": 0}, {"ramp_start": 0}, {"ramp_start": 24}, {"context": 0}]
)
def test_a_plan_of_sizes_that_never_meet_is_a_bug(wrong: dict[str, int]) -> None:
    sizes = {"global_batch": 64, "ramp_start": 16, "ramp_tokens": 1000, "context": 8}
    with pytest.raises(AssertionError):
        BatchPlan(**{**sizes, **wrong})
