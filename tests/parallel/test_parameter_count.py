"""What the table of a layout says a rank holds is what the engine builds."""

from __future__ import annotations

import pytest

from configs.schema import Precision, Schedule
from parallel.layout import Layout
from parallel.parameter_count import rank_parameters
from tests import training
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool
from tests.training import DEEPSPEED, SHAPE


def held(layout: Layout) -> int:
    """A job: the numbers in this rank's parameters."""
    with training.engine(layout, Precision.float32, SHAPE, DEEPSPEED) as engine:
        return sum(at.shape.numel() for at in engine.parameters())


@pytest.mark.parametrize(
    "layout",
    [
        Layout(tensor=2, pipeline=2, micro_batch=2),
        Layout(pipeline=2, micro_batch=2, schedule=Schedule.dualpipev),
    ],
    ids=name,
)
def test_what_a_rank_of_deepspeed_holds(ranks: RankPool, layout: Layout) -> None:
    found = ranks.run(layout.world_size, held, layout)
    stages = [layout.coordinates(rank).pipeline for rank in range(layout.world_size)]
    assert found == [rank_parameters(SHAPE, layout, stage) for stage in stages]
