"""What is built is what the Layout and the shape say: layers, names, parameters, loss."""

from __future__ import annotations

import math
from typing import Any

import pytest

from parallel.layout import Layout
from parallel.parameter_count import rank_parameters
from tests import training
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool
from tests.training import SHAPE

LAYOUTS = [
    Layout(),
    Layout(tensor=4, pipeline=2),
    Layout(pipeline=2, interleave=2, data=2),
    Layout(tensor=2, pipeline=2, interleave=2),
]


def describe(layout: Layout) -> dict[str, Any]:
    """A job: what this rank built."""
    with training.engine(layout) as engine:
        return {
            "held": sum(named.tensor.numel() for named in engine.named_tensors()),
            "names": [named.at.name for named in engine.named_tensors() if not named.tied_copy],
            "first loss": training.take_steps(engine, layout, 1, 1)[0][0],
        }


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_ranks_hold_what_the_table_says(ranks: RankPool, layout: Layout) -> None:
    built = ranks.run(layout.world_size, describe, layout)
    for rank, found in enumerate(built):
        stage = layout.coordinates(rank).pipeline
        assert found["held"] == rank_parameters(SHAPE, layout, stage)
    per_layer = 12
    everywhere = {each for found in built for each in found["names"]}
    assert len(everywhere) == SHAPE.layers * per_layer + 4
    numbers = {int(n.split(".")[2]) for n in everywhere if n.startswith("decoder.layers.")}
    assert numbers == set(range(SHAPE.layers))


def test_one_rank_holds_the_papers_count_and_padding(ranks: RankPool) -> None:
    held = ranks.run(1, describe, Layout())[0]["held"]
    padding = (SHAPE.padded_vocab() - SHAPE.vocab) * SHAPE.hidden
    assert held == SHAPE.parameters + padding


def test_the_first_loss_is_that_of_the_true_vocabulary(ranks: RankPool) -> None:
    # With padding in the softmax it would be near log 256.
    loss = ranks.run(1, describe, Layout())[0]["first loss"]
    assert loss == pytest.approx(math.log(SHAPE.vocab), abs=0.05)
