"""How many nodes a training needs to end in some days, or to cost no more than some dollars.

Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs.schema import Run
from models.flops import step_flops
from models.shape import ModelShape
from parallel.batch_schedule import BatchPlan, steps_of
from parallel.planner.cost import DAY
from parallel.planner.inputs.machine import Machine
from parallel.planner.plan import Plan
from parallel.planner.search import Found

MOST_NODES = 4_096  # that are tried where no range is given
FEW = 8  # numbers of nodes, of which all are tried


@dataclass(frozen=True)
class Option:
    """The fastest layout on one number of nodes; days and dollars include expected failures."""

    plan: Plan
    found: Found

    @property
    def nodes(self) -> int:
        """Of the plan's cluster."""
        return self.plan.run.cluster.nodes

    @property
    def days(self) -> float:
        """Expected days of the training."""
        return self.plan.expected_days

    @property
    def dollars(self) -> float | None:
        """Their price; None if it is unknown."""
        return self.plan.expected_dollars


@dataclass(frozen=True, kw_only=True)
class Reached:
    """The numbers of nodes that were tried, and which of them is best for what."""

    options: list[Option]  # ascending in nodes
    tried: list[int]  # numbers of nodes; on those without an option nothing is valid, or fits
    days: float | None = None
    dollars: float | None = None

    @property
    def goal(self) -> bool:
        """Whether there is one, or only nodes to choose from."""
        return self.days is not None or self.dollars is not None

    def reaches(self, option: Option) -> bool:
        """Whether all goals are reached."""
        in_time = self.days is None or option.days <= self.days
        return in_time and (
            self.dollars is None or (option.dollars is not None and option.dollars <= self.dollars)
        )

    @property
    def reaching(self) -> list[Option]:
        """Those that reach all goals, ascending in nodes."""
        return [each for each in self.options if self.reaches(each)]

    @property
    def fewest(self) -> Option | None:
        """The fewest nodes that reach all goals."""
        return self.reaching[0] if self.reaching else None

    @property
    def fastest(self) -> Option | None:
        """Of those that reach all goals."""
        return min(self.reaching, key=lambda each: each.days, default=None)

    @property
    def cheapest(self) -> Option | None:
        """Of those that reach all goals; None if no price is known."""
        priced = [each for each in self.reaching if each.dollars is not None]
        return min(priced, key=lambda each: each.dollars or 0.0, default=None)

    @property
    def chosen(self) -> Option | None:
        """The fewest nodes that are in time; without a day to be ready by, the fastest."""
        return self.fastest if self.days is None else self.fewest

    @property
    def front(self) -> list[Option]:
        """No other number of nodes is both faster and cheaper; without prices, fewer."""
        found: list[Option] = []
        for each in sorted(self.options, key=_price):
            if not found or each.days < found[-1].days:
                found.append(each)
        return found


def _price(option: Option) -> tuple[float, int]:
    return (option.nodes if option.dollars is None else option.dollars, option.nodes)


def numbers_of_nodes(low: int, high: int) -> list[int]:
    """All from `low` to `high` if they are few, else these two and the powers of two between; with
    three times a power of two, if that is not too many.
    """
    if high - low < FEW:
        return list(range(low, high + 1))
    powers = [2**power for power in range(high.bit_length() + 1)]
    for numbers in ([*powers, *(3 * each for each in powers)], powers):
        within = sorted({low, high, *(each for each in numbers if low <= each <= high)})
        if len(within) <= FEW:
            return within
    return within


def least_nodes(run: Run, machine: Machine, days: float) -> int:
    """Nodes that would train in so many days at the peak of their GPUs, which none exceeds."""
    each_step = step_flops(ModelShape.of(run.model), run.train.global_batch)
    samples = BatchPlan.of(run).samples_after(steps_of(run))
    flops = each_step / run.train.global_batch * samples
    peak = machine.peak(run.precision) * machine.gpus_per_node
    return max(math.ceil(flops / (peak * days * DAY)), 1)
