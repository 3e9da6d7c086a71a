"""The days, the dollars and the numbers of nodes that `phalanx plan` is asked to choose by.

Imports no torch.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import replace

from configs.errors import InputError
from configs.override import override
from configs.schema import DeviceName, Precision, Run
from configs.words import listed
from launcher.planning.searching import found_on, searched
from parallel.planner.goals import MOST_NODES, Option, Reached, least_nodes, numbers_of_nodes
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.plan import Plan

ENOUGH = 3  # numbers of nodes that reach a goal, beyond which none is tried where no range is given
MOST_GIVEN = 65_536  # nodes of a range that is given
DOUBLINGS = 4  # of the nodes, to find some that reach a goal


def goals_of(run: Run) -> list[str]:
    """The goals that were asked for, as they would be typed."""
    names = ("days", "dollars", "nodes")
    asked = {f"plan.{name}": getattr(run.plan, name) for name in names}
    return [override(name, value) for name, value in asked.items() if value is not None]


def check_goals(run: Run) -> None:
    """Raises InputError, in one line, for a goal that cannot be searched for."""
    asked = goals_of(run)
    if not asked:
        return
    for name in ("days", "dollars"):
        value = getattr(run.plan, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            usual = {"days": 30, "dollars": 1_000_000}[name]
            raise InputError(
                f"{override(f'plan.{name}', value)}: no goal of a training; nearest: "
                f"{override(f'plan.{name}', usual)}"
            )
    _range(run)
    if not run.plan.search:
        raise InputError(
            f"{asked[0]}: a goal is searched for; nearest: plan.search=true "
            f"{listed(asked, apart=' ')}"
        )
    if run.cluster.gpu is None or run.device is DeviceName.cpu:
        raise InputError(
            f"{asked[0]} cluster={run.cluster.name}: goals are for clusters of GPUs; nearest: "
            f"{'cluster=dgx_h100' if run.cluster.gpu is None else 'device=auto'}"
        )
    if run.plan.dollars is not None and run.cluster.dollars_per_hour is None:
        raise InputError(
            f"{override('plan.dollars', run.plan.dollars)} cluster={run.cluster.name}: the price "
            "of a GPU is not known; nearest: cluster.dollars_per_hour=3"
        )


def _range(run: Run) -> tuple[int, int] | None:
    """The numbers of nodes to choose from; None: no range is given."""
    given = run.plan.nodes
    if given is None:
        return None
    numbers = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", given.strip())
    if numbers is None:
        raise InputError(
            f"plan.nodes={given}: neither a number of nodes nor a range; nearest: plan.nodes=8..64"
        )
    low, high = int(numbers[1]), int(numbers[2] or numbers[1])
    if low > high:
        raise InputError(
            f"plan.nodes={given}: it ends before it begins; nearest: plan.nodes={high}..{low}"
        )
    if low < 1:
        near = f"1..{high}" if high > 1 else "1"
        raise InputError(
            f"plan.nodes={given}: nodes are counted from 1; nearest: plan.nodes={near}"
        )
    if high > MOST_GIVEN:
        raise InputError(
            f"plan.nodes={given}: more than any plan is made for; nearest: "
            f"plan.nodes={min(low, MOST_GIVEN)}..{MOST_GIVEN}"
        )
    return low, high


def reach(run: Run, typed: Collection[str]) -> tuple[Reached, Option]:
    """Searches several numbers of nodes; the chosen one is the fewest that reach all goals.

    Raises InputError if none does, with the nearest goal that can be reached.

    Args:
        typed: the settings that were typed.
    """
    given, days = _range(run), run.plan.days
    numbers = numbers_of_nodes(*(given or (1, MOST_NODES)))
    machine = machine_of(run.cluster)
    # Even at the peak of their GPUs fewer would take longer.
    least = 1 if days is None else least_nodes(run, machine, days)
    tried: list[int] = []
    options: list[Option] = []
    reached = Reached(options=options, tried=tried, days=days, dollars=run.plan.dollars)
    for nodes in [each for each in numbers if each >= least]:
        tried.append(nodes)
        options += _on(run, nodes, typed)
        if given is None and len(reached.reaching) >= ENOUGH and _dearer(reached):
            break
    if reached.chosen is None:
        raise InputError(_nearest(run, reached, numbers, typed))
    return reached, reached.chosen


def _on(run: Run, nodes: int, typed: Collection[str]) -> Iterator[Option]:
    """The fastest layout on so many nodes, if any is valid and fits."""
    if sys.stderr.isatty():
        print(f"searching on {nodes:,} node{'s' if nodes > 1 else ''}", file=sys.stderr, flush=True)
    there = replace(run, cluster=replace(run.cluster, nodes=nodes))
    ranks = nodes * machine_of(run.cluster).gpus_per_node
    found = found_on(there, DeviceName.cuda, ranks, typed)
    if found.ranked:
        best = found.ranked[0]
        its = replace(there, engine=best.engine)
        yield Option(Plan.of(its, best.layout, DeviceName.cuda), found)


def _dearer(reached: Reached) -> bool:
    """Whether the newest is worth no more: a goal in dollars is passed, or there is none."""
    return reached.dollars is None or not reached.reaches(reached.options[-1])


def _nearest(run: Run, reached: Reached, numbers: list[int], typed: Collection[str]) -> str:
    if not reached.options:
        # Not even at their peak; what the most of them would take tells how far off that is.
        for nodes in reversed([each for each in numbers if each not in reached.tried]):
            reached.tried.append(nodes)
            reached.options.extend(_on(run, nodes, typed))
            if reached.options:
                break
        reached.tried.sort()
    if not reached.options:
        nodes = reached.tried[-1]
        most = replace(run, cluster=replace(run.cluster, nodes=nodes))
        searched(most, DeviceName.cuda, nodes * machine_of(run.cluster).gpus_per_node, typed)
    days, dollars = reached.days, reached.dollars
    ways = _in_16_bits(run, reached, numbers, typed)
    if days is not None:
        affordable = [each for each in reached.options if _within(each.dollars, dollars)]
        if affordable:
            least = min(each.days for each in affordable)
            ways.append(override("plan.days", _rounded_up(least)))
        ways += _more_nodes(run, reached, numbers, typed)
    if dollars is not None:
        in_time = [each.dollars for each in reached.options if _within(each.days, days)]
        prices = [each for each in in_time if each is not None]
        if prices:
            ways.append(override("plan.dollars", _rounded_up(min(prices))))
    if not ways:
        fastest = min(reached.options, key=lambda each: each.days)
        ways.append(
            f"{override('plan.days', _rounded_up(fastest.days))} "
            f"{override('plan.dollars', _rounded_up(fastest.dollars or 0))}"
        )
    goals = [each for each in goals_of(run) if not each.startswith("plan.nodes")]
    on = (
        f"{reached.tried[0]} to {reached.tried[-1]}" if len(reached.tried) > 1 else reached.tried[0]
    )
    return (
        f"{listed(goals, apart=' ')}: no layout of model={run.model.name} reaches it on {on} "
        f"nodes; nearest: {listed(ways, apart=' or ')}"
    )


def _in_16_bits(
    run: Run, reached: Reached, numbers: list[int], typed: Collection[str]
) -> list[str]:
    """precision=bf16 if that reaches the goal where float32, the usual precision, does not."""
    machine = machine_of(run.cluster)
    if run.precision is not Precision.float32 or "bf16" not in machine.peak_flops:
        return []
    halves = replace(run, precision=Precision.bf16)
    least = 1 if run.plan.days is None else least_nodes(halves, machine, run.plan.days)
    there = (each for each in numbers if each >= least)
    if any(reached.reaches(option) for nodes in there for option in _on(halves, nodes, typed)):
        return ["precision=bf16"]
    return []


def _within(value: float | None, most: float | None) -> bool:
    return most is None or (value is not None and value <= most)


def _more_nodes(
    run: Run, reached: Reached, numbers: list[int], typed: Collection[str]
) -> list[str]:
    """A range with some that reach the goal, by doubling the most that were tried."""
    if run.plan.nodes is None or run.plan.days is None:
        return []
    nodes = max(numbers[-1], least_nodes(run, machine_of(run.cluster), run.plan.days) // 2)
    for _ in range(DOUBLINGS):
        nodes = 2 ** nodes.bit_length()  # the next power of two
        if nodes > MOST_NODES:
            break
        if any(map(reached.reaches, _on(run, nodes, typed))):
            return [f"plan.nodes={numbers[0]}..{nodes}"]
    return []


def _rounded_up(value: float) -> float:
    """To three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2) if value > 0 else 1.0
    rounded = math.ceil(value / unit) * unit
    return int(rounded) if rounded >= 100 else round(rounded, 6)
