"""What the `deepspeed` engine does beside taking steps: evaluation, its optimizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from configs.schema import EngineConfig, Precision, Schedule
from parallel.layout import Layout
from tests import training
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool
from tests.training import DEEPSPEED, GLOBAL_BATCH, MEGATRON, SHAPE

Answer = tuple[list[float], list[tuple[float, float]]]


def evaluate_between_steps(layout: Layout, config: EngineConfig) -> Answer:
    """A job: evaluations, and the steps taken among them."""
    from parallel.engines.base import Batch

    with training.engine(layout, Precision.float32, SHAPE, config) as engine:
        data_rank = layout.coordinates(torch.distributed.get_rank()).data
        places = layout.samples_of(data_rank, GLOBAL_BATCH)
        held_out = Batch(micro_batches=[training.global_batch(99)[list(it)] for it in places])
        losses = [engine.evaluate(held_out)]
        steps = training.take_steps(engine, layout, 1, 2)
        losses.append(engine.evaluate(held_out))
        steps += training.take_steps(engine, layout, 3, 3)
        return losses, steps


@pytest.fixture(scope="module")
def expected(ranks: RankPool) -> Answer:
    return ranks.run(1, evaluate_between_steps, Layout(micro_batch=2), MEGATRON)[0]


@pytest.mark.parametrize(
    "layout",
    [
        Layout(micro_batch=2),
        Layout(micro_batch=2, tensor=2),
        Layout(micro_batch=2, pipeline=2),
        Layout(micro_batch=2, tensor=2, pipeline=2),
        Layout(micro_batch=2, data=2, zero=3),
        Layout(micro_batch=2, tensor=2, sequence_parallel=True, data=2, zero=2),
        Layout(micro_batch=2, pipeline=2, schedule=Schedule.dualpipev),
    ],
    ids=name,
)
def test_evaluation(ranks: RankPool, expected: Answer, layout: Layout) -> None:
    for answer in ranks.run(layout.world_size, evaluate_between_steps, layout, DEEPSPEED):
        losses, steps = answer
        assert losses == pytest.approx(expected[0], rel=1e-6)
        assert steps == [pytest.approx(step, rel=1e-5) for step in expected[1]]


def growing_batch(layout: Layout, config: EngineConfig) -> Any:
    """A job: steps of 4, 4, then 8 samples, as a batch ramp takes them."""
    from parallel.engines.base import Batch

    with training.engine(layout, Precision.float32, SHAPE, config) as engine:
        data_rank = layout.coordinates(torch.distributed.get_rank()).data
        results = []
        for step, size in enumerate((4, 4, 8, 8)):
            tokens = training.global_batch(step)
            batch = [tokens[list(it)] for it in layout.samples_of(data_rank, size)]
            result = engine.train_step(Batch(micro_batches=batch), 3e-3)
            results.append((result.loss, result.grad_norm))
        return results


@pytest.mark.parametrize(
    "layout",
    [
        Layout(micro_batch=1),
        Layout(micro_batch=1, data=2, zero=2),
        Layout(micro_batch=1, data=2, zero=3),
        Layout(micro_batch=1, pipeline=2),
    ],
    ids=name,
)
def test_the_batch_may_grow(ranks: RankPool, layout: Layout) -> None:
    expected = ranks.run(1, growing_batch, Layout(micro_batch=4), MEGATRON)[0]
    for found in ranks.run(layout.world_size, growing_batch, layout, DEEPSPEED):
        assert found == [pytest.approx(step, rel=1e-5) for step in expected]


def without_a_compiler(layout: Layout) -> Any:
    """A job: the optimizer is to be offloaded, and DeepSpeed's cannot be compiled."""
    import deepspeed.ops.adam.cpu_adam as cpu_adam

    def fail(*_args: object) -> None:
        raise RuntimeError("g++: command\n not found")

    offload = replace(DEEPSPEED, offload_optimizer=True)
    patch = pytest.MonkeyPatch()
    patch.setattr(cpu_adam, "CPUAdamBuilder", fail)
    try:
        with training.engine(layout, Precision.float32, SHAPE, offload) as engine:
            steps = training.take_steps(engine, layout, 1, 3)
            return steps, engine.notices, type(engine.adam).__module__
    finally:
        patch.undo()


def test_without_a_compiler_torchs_adam_takes_over(ranks: RankPool) -> None:
    steps, notices, made_by = ranks.run(1, without_a_compiler, Layout(micro_batch=2, zero=1))[0]
    expected = ranks.run(1, training.train, Layout(micro_batch=2), 3)[0][0]
    assert steps == [pytest.approx(step, rel=1e-5) for step in expected]
    assert made_by.startswith("torch.")
    assert len(notices) == 1
    assert "could not be compiled (RuntimeError: g++: command not found)" in notices[0]


def steps_from_a_large_scale(layout: Layout, config: EngineConfig) -> Any:
    """A job: fp16 whose first loss scale overflows; (skipped, loss scale, loss) of each step."""
    from parallel.engines.base import Batch

    patch = pytest.MonkeyPatch()
    patch.setattr(training, "ADAM", replace(training.ADAM, loss_scale=2.0**19))
    try:
        with training.engine(layout, Precision.fp16, SHAPE, config) as engine:
            data_rank = layout.coordinates(torch.distributed.get_rank()).data
            places = [list(it) for it in layout.samples_of(data_rank, GLOBAL_BATCH)]
            steps = []
            for step in range(10):
                tokens = training.global_batch(step)
                batch = Batch(micro_batches=[tokens[it] for it in places])
                result = engine.train_step(batch, 3e-3)
                steps.append((result.skipped, result.loss_scale, result.loss))
            return steps, engine.scaler_state(), engine.adam_step()
    finally:
        patch.undo()


@pytest.mark.parametrize(
    "layout",
    [
        Layout(micro_batch=2),
        Layout(micro_batch=2, data=2, zero=2),
        Layout(micro_batch=2, data=2, zero=3),
        Layout(micro_batch=2, pipeline=2),
    ],
    ids=name,
)
def test_loss_scales_shrink_as_megatrons_do(ranks: RankPool, layout: Layout) -> None:
    # Under the same split: each rank's own sum is what overflows.
    same = replace(layout, zero=min(layout.zero, 1))
    job = (steps_from_a_large_scale, same, MEGATRON)
    steps, scaler, adam_step = ranks.run(same.world_size, *job)[0]
    skipped = [step[0] for step in steps]
    assert any(skipped), "the scale must overflow"
    assert not all(skipped), "and recover"
    for found, its_scaler, its_step in ranks.run(
        layout.world_size, steps_from_a_large_scale, layout, DEEPSPEED
    ):
        assert [step[:2] for step in found] == [step[:2] for step in steps]
        assert [step[2] for step in found] == pytest.approx([step[2] for step in steps], rel=1e-3)
        assert its_step == adam_step
        # Megatron counts on below one, where each overflow shrinks the scale too.
        left = max(scaler["hysteresis_tracker"], 1.0)
        assert its_scaler == {**scaler, "hysteresis_tracker": left}


def decay_of(layout: Layout, config: EngineConfig) -> dict[str, float]:
    """A job: what Adam decays, by the weight decay that its group has."""
    with training.engine(layout, Precision.float32, SHAPE, config) as engine:
        groups = engine.adam.param_groups
        by_tensor = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        return {named.at.name: by_tensor[id(named.tensor)] for named in engine.named_tensors()}


def test_both_engines_decay_matrices_alone(ranks: RankPool) -> None:
    for config in (MEGATRON, DEEPSPEED):
        decays = ranks.run(1, decay_of, Layout(micro_batch=2), config)[0]
        for parameter, decay in decays.items():
            vector = "layernorm" in parameter or parameter.endswith("bias")
            assert decay == (0.0 if vector else training.ADAM.weight_decay), parameter
