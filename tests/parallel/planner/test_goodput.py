"""Goodput beside a simulation of failures, and the figures of the run that they come from."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from configs.schema import DeviceName
from parallel.layout import Layout
from parallel.planner.goodput import HOUR, Goodput, goodput
from parallel.planner.plan import Plan
from tests.runs import run_of

CASES = {
    "rare failures": Goodput(
        step=10.0, failure=50_000.0, stall=2.0, written=0.0, restart=300.0, every=40
    ),
    "frequent failures": Goodput(
        step=10.0, failure=3_000.0, stall=20.0, written=0.0, restart=200.0, every=30
    ),
    "written beside": Goodput(
        step=5.0, failure=9_000.0, stall=0.5, written=90.0, restart=120.0, every=25
    ),
    "long writing": Goodput(
        step=5.0, failure=5_000.0, stall=1.0, written=150.0, restart=60.0, every=40
    ),
}


def simulated(case: Goodput, segments: int, chance: random.Random) -> float:
    """Useful time over all time of a training that is played through, failure by failure."""
    clock, done, complete = 0.0, 0, 0
    copied: tuple[float, int] | None = None  # when the newest copy was made, and of which segment
    fails = chance.expovariate(1 / case.failure)
    while done < segments:
        end = clock + case.interval + case.stall
        written = copied[0] + case.written if copied else math.inf
        if copied and written <= min(end, fails):
            complete, copied = copied[1], None
        if fails < end:
            clock, done, copied = fails, complete, None
            fails = clock + chance.expovariate(1 / case.failure)
            while fails < clock + case.restart:  # a restart fails too
                clock = fails
                fails = clock + chance.expovariate(1 / case.failure)
            clock += case.restart
            continue
        clock, done = end, done + 1
        if case.written:
            copied = clock, done
        else:
            complete = done
    return segments * case.interval / clock


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_what_a_simulation_of_failures_gives(case: Goodput) -> None:
    assert simulated(case, 60_000, random.Random(7)) == pytest.approx(case.fraction, rel=0.02)


def of_llama(node_hours: float | None = None, *, waits: bool = False) -> Goodput:
    return goodput(
        parameters=405_000_000_000,
        gpus=16_384,
        gpus_per_node=8,
        step=7.6,
        waits=waits,
        node_failure_hours=node_hours,
    )


def test_failures_come_as_often_as_in_the_published_run() -> None:
    """419 in 54 days on 2,048 nodes; a run of half the nodes has half as many."""
    assert of_llama().failure == pytest.approx(54 * 24 * HOUR / 419)
    half = goodput(parameters=10**9, gpus=8_192, gpus_per_node=8, step=1.0, waits=False)
    assert half.failure == pytest.approx(2 * 54 * 24 * HOUR / 419)
    assert of_llama(20_480.0).failure == pytest.approx(10 * HOUR)


@pytest.mark.parametrize("waits", [False, True])
def test_no_other_interval_is_much_better(waits: bool) -> None:
    best = of_llama(waits=waits)
    others = [replace(best, every=every) for every in range(1, 20 * best.every)]
    if not waits:  # the one before has to be complete
        others = [each for each in others if each.interval >= best.written]
    assert max(each.fraction for each in others) < 1.005 * best.fraction
    assert best.interval >= best.written


def test_where_nothing_is_ever_finished_nothing_is_useful() -> None:
    assert of_llama(0.001).fraction == pytest.approx(0.0, abs=1e-6)


def test_a_plan_says_what_is_expected() -> None:
    run = run_of("model=gpt3_13b cluster=dgx_h100 cluster.nodes=4 precision=bf16 layout.tensor=8")
    plan = Plan.of(run, Layout(tensor=8, data=4, zero=1), DeviceName.cuda)
    assert plan.goodput is not None
    assert plan.expected_days == pytest.approx(plan.cost.days / plan.goodput.fraction)
    assert plan.cost.dollars is not None
    assert plan.expected_dollars is not None
    assert plan.expected_dollars > plan.cost.dollars
    cluster = replace(run.cluster, node_watts=10_000.0, grams_co2_per_kwh=400.0)
    energy = Plan.of(replace(run, cluster=cluster), plan.layout, DeviceName.cuda).energy
    assert energy is not None
    assert energy.megawatt_hours == pytest.approx(4 * 0.01 * 24 * plan.expected_days)
    assert energy.tonnes == pytest.approx(0.4 * energy.megawatt_hours)
    dark = replace(run, cluster=replace(run.cluster, node_watts=None))
    assert Plan.of(dark, plan.layout, DeviceName.cuda).energy is None
    on_cpu = Plan.of(replace(run, cluster=run.cluster), Layout(), DeviceName.cpu)
    assert (on_cpu.goodput, on_cpu.energy, on_cpu.expected_days) == (None, None, on_cpu.cost.days)
