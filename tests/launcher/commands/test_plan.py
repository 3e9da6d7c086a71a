"""`phalanx plan` as users type it."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from configs.schema import DeviceName, LayoutConfig
from launcher.console.plan_summary import summary
from launcher.console.plan_tables import plan_tables
from launcher.console.search_tables import asked_line
from launcher.console.tables import print_table
from parallel.checkpoint.manifest import find
from parallel.layout import Layout
from parallel.planner.inputs.cpu import nominal_machine
from parallel.planner.plan import Plan
from tests.cli import phalanx
from tests.runs import run_of

GPT3 = ["model=gpt3_175b", "precision=bf16", "optimizer.ramp_tokens=0"]
CLUSTER = ["cluster=dgx_a100", "cluster.nodes=64", "train.global_batch=1536"]


def planned(*overrides: str) -> dict[str, Any]:
    result = phalanx("plan", *overrides, "format=json")
    assert result.status == 0, result.errors
    report: dict[str, Any] = json.loads(result.output)
    return report


def test_where_one_gpu_is_too_small_a_search_is_no_help() -> None:
    run = run_of("model=gpt3_2.7b cluster=single_v100 precision=fp16")
    report = summary(Plan.of(run, Layout(micro_batch=1), DeviceName.cuda))
    assert "51.35 of 32.0 GiB a rank, on stage 0: DOES NOT FIT; nearest: more GPUs" in report
    assert " GPU-hours, $" in report
    assert " at $1.5 a GPU-hour" in report
    assert "model    gpt3_2.7b, 2.65 billion parameters" in report
    two = Plan.of(replace(run, cluster=replace(run.cluster, nodes=2)), Layout(), DeviceName.cuda)
    assert "nearest: plan.search=true" in summary(two)


def test_one_object_with_everything_that_scripts_rely_on() -> None:
    report = planned(*GPT3, *CLUSTER, "layout=gpt3_175b")
    assert report["fits"] is True
    assert report["layout"]["data"] == 4
    for name in ("step_time_s", "tflops_per_gpu", "mfu", "days", "gpu_hours", "dollars"):
        assert report[name] > 0, name
    assert 0 < report["bubble_fraction"] < 0.5
    assert report["flops_per_step"] / report["step_time_s"] / 512 / 1e12 == pytest.approx(
        report["tflops_per_gpu"]
    )
    assert report["gpu_hours"] == pytest.approx(report["days"] * 24 * 512)
    stages = report["memory_gib"]["stages"]
    assert len(stages) == 16
    for stage in stages:
        assert sum(v for name, v in stage.items() if name != "total") == pytest.approx(
            stage["total"]
        )
    assert report["memory_gib"]["peak"] == max(stage["total"] for stage in stages)
    assert {"group", "kind", "count", "bytes", "link"} <= set(report["collectives"][0])
    assert report["parameters"]["total"] == pytest.approx(174_604.3e6, rel=1e-6)
    assert len(report["parameters"]["per_rank"]) == 16


def test_the_headline_numbers_are_reproduced_by_name() -> None:
    result = phalanx("plan", "model=gpt3_175b", "cluster=single_v100")
    assert result.status == 0, result.errors
    for report in ("3.14E23", "355", "$4.6M", "665", "700 GB", "48 GB", "DOES NOT FIT"):
        assert report in result.output
    assert "PF-days of gpt3_13b" in result.output


def test_a_search_gives_a_layout_that_is_ready_to_use(tmp_path: Path) -> None:
    overrides = ["model=gpt3_1.3b", "precision=bf16", "cluster=dgx_a100"]
    result = phalanx("plan", *overrides, "plan.search=true", "layout.tensor=8", "layout.pipeline=1")
    assert result.status == 0, result.errors
    assert result.output.startswith("plan for 8 ranks on cluster=dgx_a100, A100-SXM4-80GB\n")
    assert re.search(
        r"^asked    8x1, micro-batch 4: .* place [\d,]+ of [\d,]+$", result.output, re.M
    )
    after = result.output.split("# the fastest, as a file of configs/layout")[1]
    with_engine, _, text = after.split("\n\n")[0].partition("\n")
    engine = with_engine.removeprefix(", with ").split()
    fields = yaml.safe_load(text)
    assert set(fields) == set(LayoutConfig.__dataclass_fields__)
    assert "runner-up" in result.output
    folder = tmp_path / "layout"
    folder.mkdir()
    (folder / "found.yaml").write_text(text, encoding="utf-8")
    report = planned("--config-dir", str(tmp_path), *overrides, "layout=found", *engine)
    assert report["fits"] is True


def test_the_schedule_opens_in_perfetto(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    planned(*GPT3, *CLUSTER, "layout=gpt3_175b", f"plan.timeline={path}")
    trace = json.loads(path.read_text(encoding="utf-8"))
    assert {event["ph"] for event in trace["traceEvents"]} == {"M", "X"}
    passed = [event["args"]["micro_batch"] for event in trace["traceEvents"] if event["ph"] == "X"]
    assert trace["otherData"]["micro_batches"] == f"{len(set(passed))} of {len(set(passed))}"
    assert sorted(set(passed)) == list(range(1536 // 4))


def test_a_trace_stands_beside_the_plan() -> None:
    result = phalanx("plan", "layout=tp2", "plan.trace=true")
    assert result.status == 0, result.errors
    lines = result.output.split("analytic beside trace")[1].splitlines()
    compared = [line.split() for line in lines if "count" in line or "bytes" in line]
    assert compared
    assert all(len(line) == 5 for line in compared), "a difference would be a sixth word"
    assert "warn" not in result.errors.lower()
    assert "tracing rank 0, stage 0 (1 of 1)" in result.errors


def test_it_says_first_what_it_plans_for_and_no_table_is_cut() -> None:
    result = phalanx("plan", "model=gpt3_13b")
    assert result.status == 0, result.errors
    first, second, *rest = result.output.splitlines()
    assert first == "plan for 4 ranks on this machine's CPU, whose times are rough"
    assert second.startswith("clusters: dgx_a100, ")
    assert "cluster=NAME cluster.nodes=N" in second
    assert re.search(r"steps: [\d,]+ years, ", result.output), "not millions of days"
    assert not [line for line in rest if "..." in line or "…" in line]


@pytest.mark.parametrize("columns", ["40", "60", "80"])
def test_numbers_are_whole_at_any_width(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    console = Console(file=io.StringIO(), soft_wrap=True, markup=False)
    run = run_of("model=gpt3_13b device=cpu")
    planned = Plan.of(run, Layout.resolve(run.layout, None), DeviceName.cpu)
    for table, keys in plan_tables(planned):
        print_table(console, table, keys=keys)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "…" not in said
    assert "151.78" in said
    assert "3.48 TB" in said


def test_stages_with_the_same_traffic_share_their_rows() -> None:
    run = run_of("layout=pp4 device=cpu")
    planned = Plan.of(run, Layout.resolve(run.layout, None), DeviceName.cpu)
    (traffic,) = (table for table, keys in plan_tables(planned) if keys == 3)
    stages = list(traffic.columns[0].cells)
    assert list(dict.fromkeys(stages)) == ["0, 3", "1-2"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("train.steps=1", r"in 1 steps: \d+ seconds, "),
        ("train.steps=300", r"in 300 steps: \d+ minutes, "),
        ("model=gpt3_175b layout=single", r"\d,\d\d0,000 s: .*: \d+,\d00 years, "),
    ],
)
def test_times_have_a_unit_and_the_digits_of_an_estimate(words: str, shown: str) -> None:
    run = run_of(f"{words} device=cpu")
    layout = Layout.resolve(run.layout, None)
    machine = nominal_machine(layout.world_size)
    planned = replace(Plan.of(run, layout, DeviceName.cpu), machine=machine)
    assert re.search(shown, summary(planned), re.S), summary(planned)


def test_a_layout_that_cannot_be_is_told_beside_a_search() -> None:
    asked = {"layout": "3x1", "micro_batch": 1, "valid": False, "why": ["a", "b"]}
    assert asked_line(asked) == "asked    3x1, micro-batch 1: cannot be: a; b"


def test_a_plan_on_a_laptop_needs_no_cluster() -> None:
    report = planned()
    assert report["device"] == "cpu"
    assert report["parameters"]["per_rank"] == planned("device=cpu")["parameters"]["per_rank"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["cluster=dgx_z100"], "nearest: cluster=dgx_"),
        (["cluster=dgx_a100", "cluster.gpu=X900"], "the planner does not know this GPU; nearest"),
        ([*GPT3, "cluster=dgx_a100", "layout.tensor=16"], "layout.tensor=16"),
        ([*GPT3, "cluster=dgx_a100", "plan.search=true"], "nearest: cluster.nodes=2"),
        (["plan.search=true"], "nearest: cluster=dgx_a100"),
        (["format=xml"], "format"),
        (["format=html", "plan.out=/no/such/page.html"], "plan.out=/no/such/page.html"),
        (["cluster=dgx_a100", "cluster.software=nemmo"], "nearest: cluster.software=nemo"),
    ],
)
def test_what_cannot_be_planned_is_told_with_status_2(overrides: list[str], expected: str) -> None:
    result = phalanx("plan", *overrides)
    assert result.status == 2
    assert expected in result.errors
    assert "Traceback" not in result.errors


SEARCHED = ["model=gpt3_13b", "cluster=dgx_h100", "precision=bf16", "plan.search=true"]


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        (
            ["cluster.nodes=8", "train.global_batch=100"],
            ["train.global_batch=96", "train.global_batch=112"],  # whole steps of a ramp from 16
        ),
        (
            ["cluster.nodes=48", "train.global_batch=1537", "optimizer.ramp_tokens=0"],
            ["train.global_batch=1536", "train.global_batch=1538"],
        ),
        (["cluster.nodes=8", "train.global_batch=3"], ["train.global_batch=16"]),
        (
            ["cluster.nodes=128", "train.global_batch=96", "optimizer.ramp_start=3"],
            ["optimizer.ramp_tokens=0"],
        ),
    ],
    ids=["between", "no ramp", "few", "odd ramp"],
)
def test_the_nearest_batch_for_a_search_works(given: list[str], nearest: list[str]) -> None:
    refused = phalanx("plan", *SEARCHED, *given)
    assert (refused.status, refused.errors.count("\n")) == (2, 1)
    assert refused.errors.strip().endswith(f"; nearest: {' or '.join(nearest)}"), refused.errors
    for each in nearest:
        key = each.partition("=")[0]
        kept = [word for word in given if word.partition("=")[0] != key]
        answer = phalanx("plan", *SEARCHED, *kept, *each.split())
        assert answer.status == 0 or "valid layouts" in answer.errors, answer.errors


def test_a_search_that_no_batch_helps_says_why() -> None:
    refused = phalanx("plan", *SEARCHED, "cluster.nodes=8", "model.heads=7")
    assert refused.status == 2
    assert "this run cannot work, for 1 reason:\n  model.heads=7: hidden 5120 does not" in (
        refused.errors
    )


def test_a_plan_is_of_the_checkpoint_s_model(trained: Path, tmp_path: Path) -> None:
    of_run = planned(f"run_dir={trained}", "layout=tp2")
    for path in (trained, find(trained)):
        said = planned(f"checkpoint={path}", "layout=tp2")
        assert said["parameters"] == of_run["parameters"]
        assert said["model"] == path.name
    assert said["parameters"] != planned("layout=tp2")["parameters"]
    for typed in ("model.context=64", "model=gpt3_125m"):
        other = phalanx("plan", f"checkpoint={trained}", typed)
        assert (other.status, other.errors.count("\n")) == (2, 1)
        assert f"checkpoint={find(trained)} is of another model: model." in other.errors
    missing = tmp_path / "nowhere"
    nothing = phalanx("plan", f"checkpoint={missing}")
    says = f"phalanx: checkpoint={missing}: there is no such folder\n"
    assert (nothing.status, nothing.errors) == (2, says)
