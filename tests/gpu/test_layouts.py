"""On several GPUs: every layout and both engines train as one rank does, and share checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.schema import EngineConfig, Precision, Schedule
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.parity import relative
from tests import layouts, training
from tests.families import LLAMA
from tests.gpu import jobs
from tests.gpu.kit import Check
from tests.gpu.machine import FLOAT32, Machine, same
from tests.pool import RankPool
from tests.routing import MIXTURE
from tests.training import DEEPSPEED, GLOBAL_BATCH, MEGATRON, Curve

pytestmark = pytest.mark.gpu

STEPS = 4
SAVED_AT = 2
CASES = [
    (MEGATRON, Layout(tensor=2, micro_batch=4)),
    (MEGATRON, Layout(tensor=2, micro_batch=4, sequence_parallel=True)),
    (MEGATRON, Layout(data=2, micro_batch=2)),
    (MEGATRON, Layout(data=2, micro_batch=2, zero=1)),
    (MEGATRON, Layout(pipeline=2, micro_batch=2)),
    (MEGATRON, Layout(pipeline=2, interleave=2, micro_batch=2)),
    (DEEPSPEED, Layout(data=2, micro_batch=2, zero=1)),
    (DEEPSPEED, Layout(data=2, micro_batch=2, zero=2)),
    (DEEPSPEED, Layout(data=2, micro_batch=2, zero=3)),
    (DEEPSPEED, Layout(pipeline=2, micro_batch=2)),
    (DEEPSPEED, Layout(pipeline=2, micro_batch=2, schedule=Schedule.dualpipev)),
    (MEGATRON, Layout(tensor=2, data=2, micro_batch=2, zero=1, sequence_parallel=True)),
    (MEGATRON, Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True)),
    (DEEPSPEED, Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True)),
    (MEGATRON, Layout(tensor=8, micro_batch=4, sequence_parallel=True)),
    (MEGATRON, Layout(data=8, micro_batch=1, zero=1)),
    (
        MEGATRON,
        Layout(tensor=2, pipeline=2, data=2, micro_batch=1, zero=1, sequence_parallel=True),
    ),
    (DEEPSPEED, Layout(tensor=2, pipeline=2, data=2, micro_batch=1, zero=1)),
]
WITH_EXPERTS = [
    (MEGATRON, Layout(data=2, expert=2, micro_batch=4)),
    (MEGATRON, Layout(tensor=2, expert=2, micro_batch=4, sequence_parallel=True)),
    (MEGATRON, Layout(pipeline=2, data=2, expert=2, zero=1, micro_batch=2)),
    (DEEPSPEED, Layout(data=2, expert=2, zero=2, micro_batch=2)),
]
OF_LLAMA = [
    (MEGATRON, Layout(tensor=2, micro_batch=4, sequence_parallel=True)),
    (DEEPSPEED, Layout(data=2, micro_batch=2, zero=3)),
    (MEGATRON, Layout(tensor=2, pipeline=2, micro_batch=2)),
    (DEEPSPEED, Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True)),
]
# Where a checkpoint is written, and where it is read.
MOVES = [
    ((MEGATRON, Layout(tensor=2, micro_batch=4)), (MEGATRON, Layout(pipeline=2, micro_batch=2))),
    (
        (MEGATRON, Layout(data=2, micro_batch=2, zero=1)),
        (DEEPSPEED, Layout(data=2, micro_batch=2, zero=3)),
    ),
    (
        (DEEPSPEED, Layout(data=2, micro_batch=2, zero=2)),
        (MEGATRON, Layout(tensor=2, pipeline=2, micro_batch=2)),
    ),
]
Place = tuple[EngineConfig, Layout]
ALONE: Place = (MEGATRON, Layout(micro_batch=GLOBAL_BATCH))


def place_name(place: Place) -> str:
    config, layout = place
    return f"{config.name}-{layouts.name(layout)}"


def trained(shape: ModelShape, pool: RankPool, place: Place) -> tuple[Curve, list[float]]:
    """The curve, and the loss of the evaluation after each step."""
    config, layout = place
    job = (layout, STEPS, Precision.float32, shape, config)
    answers = pool.run(layout.world_size, jobs.train_and_evaluate, *job)
    curve = training.assemble([(steps, weights) for steps, weights, _, _ in answers])
    return curve, answers[0][2]


@pytest.fixture(scope="module")
def alone(machine: Machine, pool: RankPool) -> tuple[Curve, list[float]]:
    """One rank."""
    return trained(machine.shape, pool, ALONE)


@pytest.fixture(scope="module")
def llama_alone(machine: Machine, pool: RankPool) -> tuple[Curve, list[float]]:
    """One rank, of another kind of decoder: rotary, RMSNorm, SwiGLU, grouped heads, untied."""
    return trained(machine.like(LLAMA), pool, ALONE)


@pytest.fixture(scope="module")
def experts_alone(machine: Machine, pool: RankPool) -> tuple[Curve, list[float]]:
    """One rank, of layers with experts."""
    return trained(machine.like(MIXTURE), pool, ALONE)


@pytest.mark.parametrize("place", CASES, ids=place_name)
def test_trains_as_one_rank_does(
    machine: Machine,
    pool: RankPool,
    request: pytest.FixtureRequest,
    check: Check,
    place: Place,
) -> None:
    machine.needs_ranks(place[1].world_size)
    assert_same(check, trained(machine.shape, pool, place), request.getfixturevalue("alone"))


OTHERS = [
    *((LLAMA, "llama_alone", place) for place in OF_LLAMA),
    *((MIXTURE, "experts_alone", place) for place in WITH_EXPERTS),
]


@pytest.mark.parametrize(
    ("shape", "alone", "place"),
    OTHERS,
    ids=[f"{alone.removesuffix('_alone')}-{place_name(place)}" for _, alone, place in OTHERS],
)
def test_other_decoders_train_as_one_rank_does(
    machine: Machine,
    pool: RankPool,
    request: pytest.FixtureRequest,
    check: Check,
    shape: ModelShape,
    alone: str,
    place: Place,
) -> None:
    machine.needs_ranks(place[1].world_size)
    expected = request.getfixturevalue(alone)
    assert_same(check, trained(machine.like(shape), pool, place), expected)


def assert_same(
    check: Check, found: tuple[Curve, list[float]], expected: tuple[Curve, list[float]]
) -> None:
    (curve, evaluations), (true, evaluated) = found, expected
    same(check, curve.trace(), true.trace())
    differ = max(relative(*pair) for pair in zip(evaluations, evaluated, strict=True))
    check.within("loss of an evaluation between steps", differ, FLOAT32.steps)


@pytest.mark.parametrize(
    ("written", "read"), MOVES, ids=[f"{place_name(a)}-to-{place_name(b)}" for a, b in MOVES]
)
def test_a_checkpoint_moves(
    machine: Machine,
    pool: RankPool,
    request: pytest.FixtureRequest,
    check: Check,
    tmp_path: Path,
    written: Place,
    read: Place,
) -> None:
    machine.needs_ranks(max(layout.world_size for _, layout in (written, read)))
    expected, _ = request.getfixturevalue("alone")
    curves = []
    for (config, layout), first, last in ((written, 1, SAVED_AT), (read, SAVED_AT + 1, STEPS)):
        job = (layout, first, last, str(tmp_path), first > 1, config)
        answers = pool.run(
            layout.world_size, training.train_and_save, *job, Precision.float32, machine.shape
        )
        curves.append(training.assemble(answers))
    before, after = curves
    both = Curve(before.losses + after.losses, before.grad_norms + after.grad_norms, after.weights)
    same(check, both.trace(), expected.trace())
