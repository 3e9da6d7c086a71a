"""The cost of an entire training run: days, GPU-hours, dollars. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from configs.schema import Run
from models.flops import paper_training_flops
from models.shape import ModelShape
from parallel.batch_schedule import BatchPlan, steps_of

DAY = 86_400.0
YEAR = 365 * DAY
PETA_DAY = 1e15 * DAY  # FLOPs of a petaflop/s-day


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of an entire training run; `dollars_per_hour` is the price of one GPU."""

    steps: int
    tokens: int
    seconds: float
    gpus: int
    dollars_per_hour: float | None

    @property
    def days(self) -> float:
        """Days from the first step to the last."""
        return self.seconds / DAY

    @property
    def gpu_hours(self) -> float:
        """Hours of all GPUs together."""
        return self.seconds * self.gpus / 3600

    @property
    def dollars(self) -> float | None:
        """The price of all GPU-hours; None if the hourly price is unknown."""
        return None if self.dollars_per_hour is None else self.gpu_hours * self.dollars_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What the nodes draw in some days, each at its stated maximum; cooling is not in it."""

    days: float
    nodes: int
    node_watts: float
    grams_per_kwh: float | None

    @property
    def megawatt_hours(self) -> float:
        """Of all nodes together."""
        return self.nodes * self.node_watts * self.days * 24 / 1e6

    @property
    def tonnes(self) -> float | None:
        """Of CO2; None if the grid's emissions are unknown. 1 g/kWh is 1 kg/MWh."""
        if self.grams_per_kwh is None:
            return None
        return self.megawatt_hours * self.grams_per_kwh / 1000


def training_cost(run: Run, gpus: int, step_seconds: Callable[[int], float]) -> Cost:
    """The cost of all steps, including those of the batch ramp at their own size.

    Args:
        step_seconds: the time of a step as a function of its samples.
    """
    batch, steps = BatchPlan.of(run), steps_of(run)
    phases = [phase for phase in batch.phases() if phase.first_step < steps]
    ends = [phase.first_step for phase in phases[1:]] + [steps]
    seconds = sum(
        (end - phase.first_step) * step_seconds(phase.size)
        for phase, end in zip(phases, ends, strict=True)
    )
    return Cost(
        steps=steps,
        tokens=batch.samples_after(steps) * run.model.context,
        seconds=seconds,
        gpus=gpus,
        dollars_per_hour=run.cluster.dollars_per_hour,
    )


def petaflop_days(shape: ModelShape, tokens: int) -> float:
    """6 N D in PF-days, as in Table D.1 of Brown et al. 2020."""
    return paper_training_flops(shape, tokens) / PETA_DAY


def gpu_years(flops: float, tflops: float) -> float:
    """Years of one GPU at a sustained rate."""
    return flops / (tflops * 1e12) / YEAR
