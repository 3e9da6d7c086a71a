"""Plans of a CPU's steps from smaller ones: the law, what is measured, and when it is stale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from configs.schema import DeviceName
from parallel.hardware import threads_of_a_rank
from parallel.layout import Layout
from parallel.planner.inputs import probes
from parallel.planner.inputs.probes import Probe, extrapolated, keep, kept, may_be_measured, sizes
from parallel.planner.plan import Plan
from tests.runs import run_of

LAYOUTS = [
    Layout(micro_batch=4),
    Layout(tensor=2, micro_batch=4),
    Layout(pipeline=2, micro_batch=2),
    Layout(pipeline=2, interleave=2, micro_batch=1),
]


def law(layers: int, micro_batches: int) -> float:
    return 0.3 + 0.02 * layers + micro_batches * (0.1 + 0.05 * layers)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("layers", [4, 24, 96])
@pytest.mark.parametrize("micro_batches", [4, 32])
def test_the_law_is_found_again_from_smaller_steps(
    layout: Layout, layers: int, micro_batches: int
) -> None:
    asked = sizes(layers, micro_batches, layout)
    assert 1 <= len(asked) <= 4
    for its_layers, its_count in asked:
        assert its_layers <= layers
        assert its_layers % (layout.pipeline * layout.interleave) == 0
        assert its_count <= micro_batches
        assert its_count % (layout.pipeline if layout.interleave > 1 else 1) == 0
    if layers > 16:
        assert max(its for its, _ in asked) < layers
    measured = [Probe(layers=n, micro_batches=m, seconds=law(n, m)) for n, m in asked]
    assert extrapolated(measured, layers, micro_batches) == pytest.approx(
        law(layers, micro_batches)
    )


def test_one_micro_batch_is_the_step_itself() -> None:
    assert sizes(4, 1, Layout()) == [(4, 1)]
    assert extrapolated([Probe(layers=4, micro_batches=1, seconds=0.5)], 4, 1) == 0.5


def test_what_is_kept_is_of_one_layout_code_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHALANX_CACHE", str(tmp_path))
    run, layout = run_of("layout=single device=cpu"), Layout(micro_batch=4)
    assert kept(run, layout) == []
    found = [Probe(layers=4, micro_batches=1, seconds=0.1)]
    keep(run, layout, found)
    assert kept(run, layout) == found
    assert kept(run, replace(layout, tensor=2)) == []
    assert kept(run_of("layout=single device=cpu engine=deepspeed"), layout) == []
    # Longer runs of the same are planned from the same steps.
    assert kept(run_of("layout=single device=cpu train.global_batch=64"), layout) == found
    assert kept(run_of("layout=single device=cpu model.layers=8"), layout) == found
    monkeypatch.setattr(probes, "fingerprint", lambda: "of code that has changed")
    assert kept(run, layout) == []
    keep(run, layout, found)
    assert len(json.loads((tmp_path / "probes.json").read_text())) == 2
    (tmp_path / "probes.json").write_text("{")
    assert kept(run, layout) == []


def test_versions_and_threads_make_what_was_measured_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    before = probes.fingerprint.__wrapped__()
    assert probes.fingerprint.__wrapped__() == before
    run, layout = run_of("layout=single device=cpu"), Layout(micro_batch=4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    usual = probes.key(run, layout)
    # What the launcher gives its ranks is what a plan without ranks reckons with.
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads_of_a_rank(1)))
    assert probes.key(run, layout) == usual
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert probes.key(run, layout) != usual
    monkeypatch.setattr(probes, "PACKAGES", ("torch",))
    assert probes.fingerprint.__wrapped__() != before


def test_a_plan_says_what_its_time_rests_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHALANX_CACHE", str(tmp_path))
    run, layout = run_of("layout=single device=cpu"), Layout(micro_batch=4)
    unknown = Plan.of(run, layout, DeviceName.cpu)
    assert "off by several times" in unknown.basis
    measured = [Probe(layers=4, micro_batches=m, seconds=law(4, m)) for m in (1, 2)]
    keep(run, layout, measured)
    plan = Plan.of(run, layout, DeviceName.cpu)
    assert plan.time.seconds == pytest.approx(law(4, 4))
    assert plan.basis == "2 smaller steps measured on this machine"
    assert plan.cost.seconds == pytest.approx(plan.cost.steps * law(4, 4))


def test_only_ranks_that_this_machine_runs_are_measured() -> None:
    run = run_of("layout=single")
    assert may_be_measured(run, Layout(), DeviceName.cpu)
    assert not may_be_measured(run, Layout(), DeviceName.cuda)
    assert not may_be_measured(run_of("launch=slurm"), Layout(), DeviceName.cpu)
    uneven = Layout(pipeline=2, stage_layers=(3, 1))
    assert not may_be_measured(run, uneven, DeviceName.cpu)
