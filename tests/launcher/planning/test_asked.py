"""A second plan beside the first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli import phalanx

MODEL = ["model=llama3_8b", "cluster=dgx_h100", "precision=bf16", "train.global_batch=64"]
EIGHT = [*MODEL, "optimizer.ramp_tokens=0", "layout=single", "layout.data=8", "layout.zero=1"]


def reported(*overrides: str) -> dict[str, Any]:
    result = phalanx("plan", *overrides, "format=json")
    assert result.status == 0, result.errors
    report: dict[str, Any] = json.loads(result.output)
    return report


def test_the_second_differs_in_what_was_asked_alone() -> None:
    beside = reported(*EIGHT, "plan.beside=[layout.tensor=2,layout.data=4]")["beside"]
    assert beside["layout"]["tensor"] == 2
    alone = reported(*EIGHT, "layout.tensor=2", "layout.data=4")
    assert {name: alone[name] for name in beside} == beside


def test_beside_a_search_stands_the_layout_that_was_found() -> None:
    words = [*MODEL, "optimizer.ramp_tokens=0", "plan.search=true"]
    report = reported(*words, "plan.beside=[cluster.network_gb_s=100]")
    assert report["beside"]["layout"] == report["layout"]
    assert report["beside"]["engine"] == report["engine"]
    assert report["beside"]["step_time_s"] <= report["step_time_s"]


def test_the_terminal_marks_where_they_differ() -> None:
    result = phalanx("plan", *EIGHT, "plan.beside=[precision=fp8]")
    assert result.status == 0, result.errors
    table = result.output.partition("side by side")[2]
    assert "precision*" in table
    assert "step, s*" in table
    assert "layout*" not in table
    rough = phalanx("plan", *EIGHT, "plan.beside=[device=cpu]").output.partition("side by side")[2]
    assert "several times off" in rough
    assert "no price" in rough


@pytest.mark.parametrize(
    "beside",
    ["[]", "[run_dir=there]", "[plan.search=true]", "[format=json]", "[cluster.from=slurm]"],
)
def test_what_is_no_second_plan_is_refused(beside: str) -> None:
    result = phalanx("plan", *EIGHT, f"plan.beside={beside}")
    assert result.status == 2
    assert result.errors.startswith("phalanx: plan.beside=[")
    assert "nearest: plan.beside=[layout.micro_batch=1]" in result.errors
    assert len(result.errors.strip().splitlines()) == 1


def test_a_gpu_without_fp8_is_told() -> None:
    result = phalanx(
        "plan", "model=llama3_8b", "cluster=dgx_a100", "precision=fp8", "layout=single"
    )
    assert "A100-SXM4-80GB has no FP8" in result.output
