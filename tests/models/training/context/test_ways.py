"""Attention over a split sequence is that of one rank: outputs and gradients, every way."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from configs.schema import ContextBy
from configs.settings.network import Positions
from models.shape import ModelShape
from parallel.layout import Layout
from tests.pool import RankPool
from tests.training import network_config

TOKENS = 32
SHAPE = ModelShape(
    layers=1,
    hidden=64,
    heads=8,
    query_groups=4,
    context=TOKENS,
    vocab=9,
    positions=Positions.rotary,
)
DOCUMENTS = {
    "none": None,
    "one token each": [list(range(TOKENS))] * 2,
    "at the edges of slices": [[0, 4, 8, 16, 28], [0, 12]],
    "a slice that is all one": [[0, 3, 29], [0]],
}
WINDOWS = (None, 1, 3, 6, 20, 40)  # None: dense; those beyond a slice of 4 need several slices


def starts_of(documents: list[list[int]] | None) -> Tensor | None:
    if documents is None:
        return None
    starts = torch.zeros(len(documents), TOKENS, dtype=torch.int32)
    for sample, begins in enumerate(documents):
        for begin in begins:
            starts[sample, begin:] = begin
    return starts


def inputs() -> list[Tensor]:
    """Queries, keys, values and weights of the outputs [T, B, N, H]."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(TOKENS, 2, heads, 8, generator=generator) for heads in (8, 4, 4, 8)]


def attention(way: ContextBy, ranks: int, window: int | None, restarts: bool) -> Any:
    from models.training.attention import BandedAttention, DenseAttention

    shape = replace(SHAPE, window=window or SHAPE.window)
    layout = Layout(context=ranks, context_by=way)
    config = network_config(shape, layout, restart_positions=restarts)
    return (DenseAttention if window is None else BandedAttention)(config, 1, shape=shape)


def worst_differences(ranks: int) -> dict[str, float]:
    """A job: of each case, how far this rank's outputs and gradients are from one rank's."""
    from models.training.context.split import Split
    from parallel.runtime.process_groups import process_groups

    found = {}
    with process_groups(Layout(context=ranks), 0):
        split = Split.here()
        for way, window, (name, documents), restarts in product(
            ContextBy, WINDOWS, DOCUMENTS.items(), (False, True)
        ):
            if documents is None and restarts:
                continue
            whole = [it.requires_grad_() for it in inputs()[:3]]
            weights = inputs()[3].flatten(2)
            starts = starts_of(documents)
            expected = attention(way, 1, window, restarts)(*whole, starts)
            gradients = torch.autograd.grad(expected, whole, weights)
            own = [split.own(it.detach(), 0).requires_grad_() for it in whole]
            out = attention(way, ranks, window, restarts)(*own, starts)
            here = torch.autograd.grad(out, own, split.own(weights, 0))
            differences = [
                (got - split.own(wanted, 0)).abs().max().item()
                for got, wanted in zip((out, *here), (expected.detach(), *gradients), strict=True)
            ]
            found[f"{way}, window {window}, {name}, {restarts}"] = max(differences)
    return found


@pytest.mark.parametrize("context", [2, 4])
def test_ranks_that_share_a_sequence_are_one(ranks: RankPool, context: int) -> None:
    for differences in ranks.run(context, worst_differences, context):
        assert len(differences) == 3 * len(WINDOWS) * 7
        far = {case: by for case, by in differences.items() if by > 2e-5}
        assert not far
