"""Attention within documents: the same under every layout, and that of documents alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from configs.schema import ContextBy, EngineConfig, Precision, Recompute
from configs.settings.network import Positions
from models.shape import ModelShape
from parallel.layout import Layout
from tests import families, training
from tests.layouts import name
from tests.parallel.engines.megatron.test_parity import assert_same
from tests.pool import RankPool
from tests.training import DEEPSPEED, GLOBAL_BATCH, MEGATRON, SHAPE

STEPS = 6
LLAMA = replace(families.LLAMA, context=SHAPE.context)
BEGINS = (
    [0],
    [0, 1, 2, 3, 9, 15],
    [0, 4, 8, 12],  # where slices begin, of two ranks and of four
    [0, 5, 14],
    list(range(SHAPE.context)),
    [0, 15],
    [0, 8],
    [0, 3, 11],
)
LAYOUTS: list[tuple[EngineConfig, Layout]] = [
    (MEGATRON, Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True)),
    (MEGATRON, Layout(pipeline=2, interleave=2, micro_batch=2, recompute=Recompute.full)),
    (MEGATRON, Layout(data=2, micro_batch=2, zero=1, recompute=Recompute.selective)),
    *((MEGATRON, Layout(context=2, context_by=way, micro_batch=4)) for way in ContextBy),
    (MEGATRON, Layout(context=4, context_by=ContextBy.ring, pipeline=2, micro_batch=2)),
    (DEEPSPEED, Layout(context=2, context_by=ContextBy.gather, micro_batch=4, zero=3)),
    (DEEPSPEED, Layout(pipeline=2, tensor=2, micro_batch=2, recompute=Recompute.full)),
    (DEEPSPEED, Layout(context=2, context_by=ContextBy.ring, pipeline=2, micro_batch=2)),
    (DEEPSPEED, Layout(pipeline=4, micro_batch=2)),  # two inner stages, which read no batches
    (MEGATRON, Layout(pipeline=4, micro_batch=2)),
]


def starts_of(rows: list[int]) -> Tensor:
    """[B, T] of these samples of a batch."""
    starts = torch.zeros(len(rows), SHAPE.context, dtype=torch.int32)
    for row, sample in enumerate(rows):
        for begin in BEGINS[sample]:
            starts[row, begin:] = begin
    return starts


def batch_here(layout: Layout, step: int, shape: ModelShape, *, documents: bool) -> Any:
    batch = training.batch_here(layout, step, shape)
    data_rank = layout.coordinates(torch.distributed.get_rank()).data
    rows = [list(each) for each in layout.samples_of(data_rank, GLOBAL_BATCH)]
    return replace(batch, starts=[starts_of(each) for each in rows] if documents else None)


def train(
    config: EngineConfig,
    layout: Layout,
    shape: ModelShape,
    restart: bool,
    documents: bool = True,
) -> Any:
    """A job: (loss, gradient norm) of each step, the held-out loss after, and the weights."""
    made = training.engine(
        layout, Precision.float32, shape, config, restart_positions=restart and documents
    )
    with made as engine:
        results = []
        for step in range(1, STEPS + 1):
            batch = batch_here(layout, step, shape, documents=documents)
            result = engine.train_step(batch, training.ADAM.learning_rate)
            results.append((result.loss, result.grad_norm))
        held_out = engine.evaluate(batch_here(layout, 99, shape, documents=documents))
        return [*results, (held_out, 1.0)], training.weights_here(engine)


@pytest.fixture(scope="module")
def one_rank(ranks: RankPool) -> dict[Any, training.Curve]:
    layout = Layout(micro_batch=GLOBAL_BATCH)
    return {
        (shape, restart, documents): training.assemble(
            ranks.run(1, train, MEGATRON, layout, shape, restart, documents)
        )
        for shape in (SHAPE, LLAMA)
        for restart, documents in ((False, True), (True, True), (False, False))
    }


@pytest.mark.parametrize(
    ("shape", "restart"), [(SHAPE, True), (LLAMA, False)], ids=["gpt3-restarting", "llama"]
)
@pytest.mark.parametrize(
    ("config", "layout"), LAYOUTS, ids=[f"{config.name}-{name(it)}" for config, it in LAYOUTS]
)
def test_documents_stay_apart_as_on_one_rank(
    ranks: RankPool,
    one_rank: dict[Any, training.Curve],
    config: EngineConfig,
    layout: Layout,
    shape: ModelShape,
    restart: bool,
) -> None:
    answers = ranks.run(layout.world_size, train, config, layout, shape, restart)
    assert_same(training.assemble(answers), one_rank[shape, restart, True])


def test_a_mask_changes_what_is_learned(one_rank: dict[Any, training.Curve]) -> None:
    for shape in (SHAPE, LLAMA):
        with_mask, without = (one_rank[shape, False, documents] for documents in (True, False))
        assert with_mask.losses[0] != pytest.approx(without.losses[0], rel=1e-5)
    # Rotated keys know nothing but distances, so that it is all the same where they count from.
    restarted, not_restarted = (one_rank[LLAMA, restart, True] for restart in (True, False))
    assert restarted.losses == pytest.approx(not_restarted.losses, rel=1e-5)
    restarted, not_restarted = (one_rank[SHAPE, restart, True] for restart in (True, False))
    assert restarted.losses[0] != pytest.approx(not_restarted.losses[0], rel=1e-5)


def packed_and_alone(shape: ModelShape) -> Any:
    """A job: losses [B, T] and summed gradients of packed documents, of each alone, and of the
    packed ones without a mask.
    """
    layout = Layout(micro_batch=GLOBAL_BATCH)
    tokens = training.global_batch(1, shape)
    samples, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    with training.engine(layout, Precision.float32, shape, restart_positions=True) as engine:
        (model,) = engine.chunks
        weights = [named.tensor for named in engine.named_tensors()]

        def run(rows: slice, columns: slice, starts: Tensor | None, *, restart: bool) -> Tensor:
            own = samples[rows, columns]
            positions = torch.arange(own.shape[1]).expand_as(own)
            if restart and starts is not None:
                positions = positions - starts
            losses: Tensor = model(
                own.contiguous(), positions, starts, labels=labels[rows, columns].contiguous()
            )
            torch.autograd.backward(losses.sum())
            return losses.detach()

        def gradients() -> list[Tensor]:
            found = [weight.main_grad.clone() for weight in weights]
            model.zero_grad_buffer()
            return found

        everything, every_row = slice(None), slice(0, GLOBAL_BATCH)
        model.zero_grad_buffer()
        starts = starts_of(list(range(GLOBAL_BATCH)))
        packed = run(every_row, everything, starts, restart=True)
        of_packed = gradients()
        alone = torch.zeros_like(packed)
        for row, begins in enumerate(BEGINS):
            for first, end in zip(begins, [*begins[1:], shape.context], strict=True):
                rows, columns = slice(row, row + 1), slice(first, end)
                alone[rows, columns] = run(rows, columns, None, restart=False)
        of_alone = gradients()
        unmasked = run(every_row, everything, None, restart=False)
        return packed, alone, unmasked, of_packed, of_alone, gradients()


@pytest.mark.parametrize(
    "shape",
    [SHAPE, LLAMA, replace(SHAPE, positions=Positions.rotary, query_groups=2)],
    ids=["gpt3", "llama", "banded and grouped"],
)
def test_packed_documents_are_documents_alone(ranks: RankPool, shape: ModelShape) -> None:
    ((packed, alone, unmasked, of_packed, of_alone, of_unmasked),) = ranks.run(
        1, packed_and_alone, shape
    )
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(of_packed, of_alone, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-4)
    assert (unmasked - alone).abs().max() > 1e-3
    differences = [
        (got - wanted).abs().max() for got, wanted in zip(of_unmasked, of_alone, strict=True)
    ]
    assert max(differences) > 1e-2
