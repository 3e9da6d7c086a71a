"""Step times: the estimate against the schedule played through, and which way each lever works."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.schema import OptimizerName, Recompute
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.timing.step import Step
from tests.runs import run_of

SHAPE = ModelShape(layers=48, hidden=6144, heads=48, context=2048, vocab=50257)
LAYOUT = Layout(tensor=8, pipeline=4, data=4, micro_batch=2)


def machine(cluster: str = "dgx_a100") -> Machine:
    return machine_of(run_of(f"cluster={cluster}").cluster)


def step(layout: Layout = LAYOUT, cluster: str = "dgx_a100", batch: int = 256) -> Step:
    hardware = machine(cluster)
    job = Job(shape=SHAPE, layout=layout, global_batch=batch, precision="bf16")
    return Step(job, hardware, calibrated("phalanx", hardware.gpu).constants)


def seconds(layout: Layout = LAYOUT, cluster: str = "dgx_a100", batch: int = 256) -> float:
    return step(layout, cluster, batch).time().seconds


@pytest.mark.parametrize(
    "layout",
    [
        Layout(tensor=8, data=16),
        Layout(tensor=4, pipeline=8, data=4),
        Layout(tensor=4, pipeline=8, data=4, interleave=3),
        Layout(tensor=2, pipeline=4, data=16, recompute=Recompute.full),
        Layout(data=128, zero=3),
    ],
    ids=str,
)
def test_the_estimate_is_near_the_schedule_played_through(layout: Layout) -> None:
    whole = step(layout).time()
    assert step(layout).seconds_estimate() == pytest.approx(whole.seconds, rel=0.03)
    assert whole.seconds == whole.pipeline + whole.data + whole.optimizer


def test_muon_takes_longer_the_fewer_share_its_work() -> None:
    def update(layout: Layout, optimizer: OptimizerName = OptimizerName.muon) -> float:
        made = step(layout)
        job = replace(made.job, optimizer=optimizer, newton_schulz_steps=5)
        return replace(made, job=job).optimizer()

    one, four = Layout(tensor=8), Layout(tensor=8, data=4)
    assert update(four, OptimizerName.adam) < update(four) < update(one)
    matmuls = update(one) - update(one, OptimizerName.adam)
    # At the peak, the five steps on fc1, [4h, h]: 5 (8 + 2 + 8) h^3 FLOPs.
    assert matmuls > SHAPE.layers * 90 * SHAPE.hidden**3 / machine().peak("bf16")


def test_what_costs_time_and_what_saves_it() -> None:
    assert seconds(replace(LAYOUT, recompute=Recompute.full)) > 1.2 * seconds()
    assert seconds(replace(LAYOUT, sequence_parallel=True)) < seconds()
    assert seconds(cluster="dgx_h100") < seconds()
    assert seconds(batch=512) > 1.7 * seconds()
    deep = replace(LAYOUT, pipeline=8, data=2)
    more = step(deep).time().bubble_fraction
    assert more > step(replace(deep, interleave=2)).time().bubble_fraction > 0


def test_no_plan_is_faster_than_the_hardware() -> None:
    for cluster in ("dgx_v100", "dgx_a100_40", "dgx_a100", "dgx_h100", "dgx_h200", "dgx_b200"):
        found = step(cluster=cluster)
        found = Step(replace(found.job, precision="fp16"), found.machine, found.constants)
        flops = 6 * SHAPE.parameters * 256 * SHAPE.context / LAYOUT.world_size
        assert found.time().seconds > flops / found.machine.peak("fp16")


@pytest.mark.parametrize(
    ("gpu", "family"), [("A100-SXM4-40GB", "A100-40GB"), ("A100-SXM4-80GB", "A100")]
)
def test_a_gpu_gets_the_constants_of_its_own_kind(gpu: str, family: str) -> None:
    assert calibrated("phalanx", gpu).gpu == family
