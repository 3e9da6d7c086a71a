"""The cases that both engines must train alike and that plans must be right about.

Each is trained once in a session: for its curve, and for what its ranks hold and send meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from configs.schema import EngineConfig, OptimizerConfig, Precision
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.communication.traffic import Traffic, steps_to_settle
from tests import families, layouts, training
from tests.layouts import name
from tests.pool import RankPool
from tests.training import DEEPSPEED, MEGATRON, SHAPE, Curve

STEPS = 8


class Case(NamedTuple):
    """What is trained: by which engine, how it is laid out, and in which numbers."""

    config: EngineConfig
    layout: Layout
    precision: Precision
    shape: ModelShape = SHAPE


HALF = (Precision.bf16, Precision.fp16)
FLOAT32 = Precision.float32
ENGINES = ((MEGATRON, families.MEGATRON), (DEEPSPEED, families.DEEPSPEED))
OF_FAMILIES: list[Case] = [
    Case(config, layout, FLOAT32, shape) for config, each in ENGINES for shape, layout in each
]
HALF_OF_FAMILIES: list[Case] = [
    Case(config, layout, half, shape)
    for config in (MEGATRON, DEEPSPEED)
    for shape, layout, half in families.HALF
]
CASES: list[Case] = [
    *(Case(MEGATRON, layout, FLOAT32) for layout in layouts.MEGATRON),
    *(Case(MEGATRON, layout, FLOAT32) for layout in layouts.MEGATRON_RECOMPUTE),
    *(Case(MEGATRON, layout, half) for layout in layouts.MEGATRON_HALF for half in HALF),
    *(Case(DEEPSPEED, layout, FLOAT32) for layout in layouts.DEEPSPEED),
    *(Case(DEEPSPEED, layout, FLOAT32) for layout in layouts.DEEPSPEED_RECOMPUTE),
    *(Case(DEEPSPEED, layout, half) for layout in layouts.DEEPSPEED_HALF for half in HALF),
    *OF_FAMILIES,
    *HALF_OF_FAMILIES,
]


def case_name(case: Case) -> str:
    of = "" if case.shape == SHAPE else f"{families.NAMES[case.shape]}-"
    return f"{of}{case.config.name}-{name(case.layout)}-{case.precision}"


@dataclass(frozen=True)
class Trained:
    """A case's curve, and of each rank the numbers of the model it holds and its traffic."""

    curve: Curve
    counted: list[tuple[int, list[Traffic]]]


class TrainedCases:
    """Trains a case when it is first asked for."""

    def __init__(self, ranks: RankPool) -> None:
        self._ranks = ranks
        self._trained: dict[Case, Trained] = {}

    def __getitem__(self, given: tuple[EngineConfig, Layout, Precision] | Case) -> Trained:
        case = Case(*given)
        if case not in self._trained:
            answers = self._ranks.run(case.layout.world_size, train_and_count, case)
            self._trained[case] = Trained(
                training.assemble([(steps, weights) for steps, weights, _, _ in answers]),
                [(parameters, traffic) for _, _, parameters, traffic in answers],
            )
        return self._trained[case]


def train_and_count(case: Case, optimizer: OptimizerConfig | None = None) -> Any:
    """A job: (loss, gradient norm) of each step, this rank's weights, how many numbers it holds,
    and its traffic in the first settled step.
    """
    from parallel.planner.trace.collective_counter import counting

    config, layout, precision, shape = case
    settled = steps_to_settle(layout)
    with training.engine(layout, precision, shape, config, optimizer) as engine:
        results = training.take_steps(engine, layout, 1, settled)
        with counting(layout) as counts:
            results += training.take_steps(engine, layout, settled + 1, settled + 1)
        results += training.take_steps(engine, layout, settled + 2, STEPS)
        parameters = sum(part.shape.numel() for part in engine.parameters())
        return results, training.weights_here(engine), parameters, counts.traffic()
