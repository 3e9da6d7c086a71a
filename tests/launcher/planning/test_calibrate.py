"""`phalanx plan calibrate`: runs whose steps took what other constants would plan.

No GPU is here, so the measured steps are those of a plan by constants that the command does not
know; everything else is as `phalanx train` leaves it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from configs.schema import DeviceName
from launcher.run.run_dir import RunFolder
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.own import read_own
from parallel.planner.timing.step import Step
from tests.cli import phalanx
from tests.finished import LAYOUTS, RUN, finished_run, truth
from tests.runs import run_of


def planned(words: str, *more: str) -> dict[str, object]:
    result = phalanx("plan", *RUN.split(), *words.split(), *more, "format=json")
    assert result.status == 0, result.errors
    report: dict[str, object] = json.loads(result.output)
    return report


def test_plans_then_rest_on_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    names = ["tensor", "pipeline", "data"]
    folders = [str(finished_run(tmp_path / name, LAYOUTS[name])) for name in names]
    before = planned(LAYOUTS["context"])
    result = phalanx("plan", "calibrate", f"run_dir=[{','.join(folders)}]")
    assert result.status == 0, result.errors
    path = tmp_path / "data" / "phalanx" / "calibration.json"
    assert f"wrote {path}: plans of llama3_8b on H100-SXM5-80GB rest on 3 runs" in result.output
    assert "before" in result.output
    (entry,) = read_own(path)
    assert all(abs(each - 1) < 0.15 for each in entry.errors)
    # A layout that none of the runs had comes nearer to what it would take.
    after = planned(LAYOUTS["context"])
    run = run_of(f"{RUN} {LAYOUTS['context']}")
    layout = Layout.resolve(run.layout, None)
    real = Step(Job.of(run, layout), machine_of(run.cluster), truth()).time().seconds
    off = [abs(float(str(each["step_time_s"])) / real - 1) for each in (before, after)]
    assert off[1] < off[0] / 2
    assert after["calibration"]["basis"].startswith("3 runs of ours")  # type: ignore[index]
    width = [
        each["step_time_interval_s"]["high"] / each["step_time_interval_s"]["low"]  # type: ignore[index]
        for each in (before, after)
    ]
    assert width[1] < width[0]
    # Others are planned as before, and so is this one if asked.
    assert (
        planned(LAYOUTS["context"], "plan.calibration=shipped")["step_time_s"]
        == (before["step_time_s"])
    )
    other = planned(LAYOUTS["data"], "model.layers=16")
    assert "published" in other["calibration"]["basis"]  # type: ignore[index]


def test_a_second_fit_takes_the_place_of_the_first(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "one", LAYOUTS["data"])
    kept = f"plan.calibration={tmp_path / 'ours.json'}"
    for _ in range(2):
        assert phalanx("plan", "calibrate", f"run_dir={one}", kept).status == 0
    (entry,) = read_own(tmp_path / "ours.json")
    assert entry.basis == "1 run of ours of llama3_8b on H100-SXM5-80GB"
    assert entry.shape["layers"] == 32
    assert "context" not in entry.shape
    assert ModelShape.of(run_of(RUN).model).settings()["layers"] == 32


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("model.layers=16", "trained llama3_8b"),
        ("cluster=dgx_a100", "ran on A100-SXM4-80GB"),
    ],
)
def test_runs_of_another_model_or_machine_are_refused(
    tmp_path: Path, second: str, said: str
) -> None:
    one = finished_run(tmp_path / "one", LAYOUTS["data"])
    other = finished_run(tmp_path / "other", f"{LAYOUTS['data']} {second}", seconds=3.0)
    result = phalanx("plan", "calibrate", f"run_dir=[{one},{other}]")
    assert result.status == 2
    assert f"run_dir={other}: {said}" in result.errors
    assert f"nearest: run_dir=[{one}]" in result.errors
    assert len(result.errors.strip().splitlines()) == 1


def test_what_is_no_run_on_gpus_is_refused(tmp_path: Path) -> None:
    result = phalanx("plan", "calibrate")
    assert result.status == 2
    assert "of which runs is not said" in result.errors
    result = phalanx("plan", "calibrate", f"run_dir={tmp_path}")
    assert result.status == 2
    assert "is no run of phalanx train" in result.errors
    short = finished_run(tmp_path / "short", LAYOUTS["data"], steps=4)
    result = phalanx("plan", "calibrate", f"run_dir={short}")
    assert result.status == 2
    assert "has 1 timed steps after the first 3, too few" in result.errors
    cpu = tmp_path / "cpu"
    run = replace(run_of("layout=single"), device=DeviceName.cpu)
    RunFolder(cpu).write(run, run, "")
    result = phalanx("plan", "calibrate", f"run_dir={cpu}")
    assert result.status == 2
    assert "ran on cpu" in result.errors


def test_a_file_that_is_no_calibration_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    result = phalanx("plan", *RUN.split(), f"plan.calibration={wrong}")
    assert result.status == 2
    assert f"plan.calibration={wrong}" in result.errors
    assert "nearest: plan.calibration=shipped" in result.errors
    one = finished_run(tmp_path / "one", LAYOUTS["data"])
    ours = f"plan.calibration={tmp_path}/ours.json"
    assert phalanx("plan", "calibrate", f"run_dir={one}", ours).status == 0
    result = phalanx("plan", *RUN.split(), "model.layers=16", ours)
    assert result.status == 2
    assert "has llama3_8b on H100-SXM5-80GB, not" in result.errors


def test_runs_that_no_constants_suit_are_told_and_make_wide_intervals(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "one", LAYOUTS["data"])
    slow = finished_run(tmp_path / "slow", LAYOUTS["tensor"], seconds=1e3)
    ours = f"plan.calibration={tmp_path}/ours.json"
    result = phalanx("plan", "calibrate", f"run_dir=[{one},{slow}]", ours)
    assert result.status == 0, result.errors
    assert "no constants suit all of these runs" in result.output
    within = planned(LAYOUTS["data"], ours)["step_time_interval_s"]
    assert within["high"] / within["low"] > 4  # type: ignore[index]


def test_one_run_named_twice_is_one(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "one", LAYOUTS["data"])
    result = phalanx(
        "plan", "calibrate", f"run_dir=[{one},{one}/]", f"plan.calibration={tmp_path}/ours.json"
    )
    assert "rest on 1 run of yours" in result.output


@pytest.mark.parametrize("wrong", ["NaN", "-1", '"abc"', "1e300", "0"])
def test_times_that_cannot_be_are_not_counted(wrong: str, tmp_path: Path) -> None:
    one = finished_run(tmp_path / "one", LAYOUTS["data"])
    row = f'{{"step": 1, "step_time_s": {wrong}, "tokens_per_s": 1.0}}\n'
    (one / "metrics.jsonl").write_text(row * 12)
    result = phalanx("plan", "calibrate", f"run_dir={one}")
    assert result.status == 2
    assert "has 0 timed steps" in result.errors


@pytest.mark.parametrize("wrong", [float("nan"), -1, None, "x"])
def test_a_file_with_impossible_numbers_is_not_believed(wrong: object, tmp_path: Path) -> None:
    one = finished_run(tmp_path / "one", LAYOUTS["data"])
    path = tmp_path / "ours.json"
    ours = f"plan.calibration={path}"
    assert phalanx("plan", "calibrate", f"run_dir={one}", ours).status == 0
    kept = json.loads(path.read_text())
    kept["entries"][0]["constants"]["matmul"] = wrong
    path.write_text(json.dumps(kept))
    result = phalanx("plan", *RUN.split(), *LAYOUTS["data"].split(), ours)
    assert result.status == 2
    assert "is no file of phalanx plan calibrate" in result.errors
