"""A run moves between the engines: each reads what the other saved, moments and all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch.nn.functional as F

from configs.schema import ContextBy, EngineConfig, Precision
from models.layer_table import OUTPUT, VOCAB_MULTIPLE, WORDS
from models.shape import ModelShape
from parallel.checkpoint import manifest
from parallel.checkpoint.shards import unsharded
from parallel.checkpoint.tensors import read_tensors, write_tensors
from parallel.layout import Layout
from parallel.parity import Tolerance, compare
from tests import families, routing, training
from tests.parallel.engines.megatron.test_parity import assert_same, name
from tests.pool import RankPool
from tests.training import DEEPSPEED, MEGATRON, Curve

SAVED_UNDER = Layout(tensor=2, pipeline=2, micro_batch=2)
LAST = 8
DEEPSPEED_LAYOUTS = [
    Layout(data=2, micro_batch=2, zero=1),
    Layout(data=2, micro_batch=2, zero=3),
    Layout(tensor=2, data=2, micro_batch=2, zero=2),
]

# Its heads split over two tensor ranks and over three, which pad its 130 tokens to 256 and 384.
UNTIED = replace(families.THREE, query_groups=6)
SPLIT = Layout(tensor=2, sequence_parallel=True, micro_batch=4)
MOVING = replace(routing.SHARED, moe=replace(routing.SHARED.moe, bias_rate=1e-2))
Place = tuple[EngineConfig, Layout]
ZERO_3 = (DEEPSPEED, Layout(data=2, micro_batch=2, zero=3))
ACROSS: dict[str, tuple[ModelShape, list[Place]]] = {
    "everything": (
        families.EVERYTHING,
        [
            (MEGATRON, SAVED_UNDER),
            (DEEPSPEED, Layout(pipeline=4, micro_batch=2)),
            ZERO_3,
            (MEGATRON, Layout(tensor=2, data=2, zero=1, micro_batch=2, sequence_parallel=True)),
        ],
    ),
    "sequences whole and split": (
        training.SHAPE,
        [
            (MEGATRON, Layout(micro_batch=4)),
            (MEGATRON, Layout(context=4, context_by=ContextBy.ring, zero=1, micro_batch=4)),
            (DEEPSPEED, Layout(context=2, context_by=ContextBy.gather, zero=3, micro_batch=4)),
            (MEGATRON, Layout(data=2, micro_batch=2)),
        ],
    ),
    "experts": (  # with biases and loads that later steps depend on
        MOVING,
        [
            (MEGATRON, replace(SPLIT, data=2, expert=2, expert_tensor=2, zero=1, micro_batch=2)),
            (DEEPSPEED, Layout(data=4, expert=4, zero=2, micro_batch=2)),
            (MEGATRON, Layout(pipeline=2, data=2, expert=2, zero=1, micro_batch=2)),
            (DEEPSPEED, replace(SPLIT, expert=2)),
        ],
    ),
    "untied": (
        UNTIED,
        [
            (MEGATRON, SAVED_UNDER),
            (MEGATRON, Layout(tensor=3, micro_batch=4)),
            ZERO_3,
            (DEEPSPEED, Layout(tensor=3, micro_batch=4)),
        ],
    ),
}


@pytest.fixture(scope="module")
def uninterrupted(ranks: RankPool) -> Curve:
    return training.assemble(ranks.run(SAVED_UNDER.world_size, training.train, SAVED_UNDER, LAST))


def go_on(
    ranks: RankPool,
    folder: Path,
    engine: EngineConfig,
    layout: Layout,
    first: int,
    last: int,
    shape: ModelShape = training.SHAPE,
) -> Curve:
    job = (layout, first, last, str(folder), first > 1, engine, Precision.float32, shape)
    return training.assemble(ranks.run(layout.world_size, training.train_and_save, *job))


def assert_part_of(curve: Curve, whole: Curve, first: int) -> None:
    last = first + len(curve.losses) - 1
    assert curve.losses == pytest.approx(whole.losses[first - 1 : last], rel=1e-4)
    assert curve.losses[0] == pytest.approx(whole.losses[first - 1], rel=1e-6)
    assert curve.grad_norms == pytest.approx(whole.grad_norms[first - 1 : last], rel=1e-4)


def test_megatron_to_deepspeed_and_back(
    ranks: RankPool, uninterrupted: Curve, tmp_path: Path
) -> None:
    go_on(ranks, tmp_path, MEGATRON, SAVED_UNDER, 1, 3)
    to_6 = go_on(ranks, tmp_path, DEEPSPEED, Layout(pipeline=4, micro_batch=2), 4, 6)
    assert_part_of(to_6, uninterrupted, 4)
    interleaved = Layout(pipeline=2, interleave=2, micro_batch=2)
    to_8 = go_on(ranks, tmp_path, MEGATRON, interleaved, 7, LAST)
    assert_part_of(to_8, uninterrupted, 7)
    final = compare(
        Curve(uninterrupted.losses, uninterrupted.grad_norms, to_8.weights).trace(),
        uninterrupted.trace(),
        Tolerance.of(Precision.float32),
    )
    assert final.agrees, final
    state = manifest.TrainState.read(manifest.find(tmp_path))
    assert (state.step, state.adam_step) == (LAST, LAST)


@pytest.mark.parametrize("layout", DEEPSPEED_LAYOUTS, ids=name)
def test_every_zero_stage_reads_and_writes_it(
    ranks: RankPool, uninterrupted: Curve, tmp_path: Path, layout: Layout
) -> None:
    go_on(ranks, tmp_path, MEGATRON, SAVED_UNDER, 1, 3)
    assert_part_of(go_on(ranks, tmp_path, DEEPSPEED, layout, 4, 5), uninterrupted, 4)
    one = Layout(micro_batch=4)
    assert_part_of(go_on(ranks, tmp_path, MEGATRON, one, 6, 7), uninterrupted, 6)


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp16])
def test_half_precision_keeps_its_masters_and_scale(
    ranks: RankPool, tmp_path: Path, precision: Precision
) -> None:
    layout = Layout(data=2, micro_batch=2, zero=1)

    def steps(first: int, last: int, engine: EngineConfig, folder: str) -> Curve:
        job = (layout, first, last, str(tmp_path / folder), first > 1, engine, precision)
        return training.assemble(ranks.run(2, training.train_and_save, *job))

    for engine, other in ((MEGATRON, DEEPSPEED), (DEEPSPEED, MEGATRON)):
        steps(1, 3, engine, engine.name)
        saved = manifest.TrainState.read(manifest.find(tmp_path / engine.name))
        moved = steps(4, 5, other, engine.name)
        back = manifest.TrainState.read(manifest.find(tmp_path / engine.name))
        assert back.adam_step == 5
        assert saved.scaler.keys() == back.scaler.keys()
        if precision is Precision.fp16:
            assert saved.scaler["growth_tracker"] == 3
            assert back.scaler["growth_tracker"] == 5
        straight = steps(1, 5, engine, f"{engine.name}-straight")
        assert moved.losses == pytest.approx(straight.losses[3:], rel=1e-3)
        assert moved.grad_norms == pytest.approx(straight.grad_norms[3:], rel=2e-2)


@pytest.mark.parametrize("of", ACROSS)
def test_other_decoders_go_through_engines_and_layouts(
    ranks: RankPool, tmp_path: Path, of: str
) -> None:
    shape, places = ACROSS[of]
    one = training.assemble(
        ranks.run(1, training.train, Layout(micro_batch=8), LAST, Precision.float32, shape)
    )
    whole = Curve([], [], {})
    for first, (engine, layout) in zip(range(1, LAST, 2), places, strict=True):
        curve = go_on(ranks, tmp_path, engine, layout, first, first + 1, shape)
        whole = Curve(
            whole.losses + curve.losses, whole.grad_norms + curve.grad_norms, curve.weights
        )
    assert_same(whole, one)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (training.SHAPE, Layout(micro_batch=4)),
        (training.SHAPE, SAVED_UNDER),
        (UNTIED, SAVED_UNDER),
        (UNTIED, Layout(tensor=3, micro_batch=4)),
    ],
    ids=["gpt3-1x1", "gpt3-2x2", "untied-2x2", "untied-3x1"],
)
def test_an_older_checkpoint_with_a_padded_vocabulary_is_read(
    ranks: RankPool, tmp_path: Path, shape: ModelShape, layout: Layout
) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    go_on(ranks, new, MEGATRON, Layout(micro_batch=8), 1, 3, shape)
    saved = manifest.find(new)
    tensors = read_tensors(saved)
    for key in tensors:
        if key.partition(".")[2] in (WORDS, OUTPUT):
            tensors[key] = F.pad(tensors[key], (0, 0, 0, -shape.vocab % VOCAB_MULTIPLE))
            assert len(tensors[key]) == 256
    state = manifest.TrainState.read(saved)
    known = ("layers", "hidden", "heads", "context", "vocab", "attention", "window")
    if shape == training.SHAPE:  # as it was before there were others
        state = replace(state, model={key: state.model[key] for key in known})
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    write_tensors({key: unsharded(it) for key, it in tensors.items()}, state, tokenizer, old)
    expected = go_on(ranks, new, MEGATRON, layout, 4, 5, shape)
    assert_same(go_on(ranks, old, MEGATRON, layout, 4, 5, shape), expected)
