"""What a run measures of this machine before its first step, and what its end then shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli import TINY, phalanx

MEASURING = "measuring this machine for its plans"


@pytest.mark.parametrize("engine", ["megatron", "deepspeed"])
def test_a_run_is_planned_from_steps_that_it_measured(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHALANX_CACHE", str(tmp_path / "cache"))
    words = [*TINY, f"engine={engine}", "train.steps=22", "train.save_every=0", "layout=tp2"]

    def trained(name: str, *more: str) -> tuple[str, list[float]]:
        result = phalanx("train", *words, *more, f"run_dir={tmp_path / name}")
        assert result.status == 0, result.errors
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return result.output, [row["loss"] for row in rows if "loss" in row]

    first, losses = trained("first")
    assert MEASURING in first
    assert "step time, s" in first
    plan = phalanx("plan", *words)
    assert "smaller steps measured on this machine" in plan.output
    # The second time it is known, and measuring leaves no trace in what is trained.
    second, again = trained("second", "train.global_batch=16")
    assert MEASURING not in second
    assert "step time, s" in second
    assert len(again) == 22
    without, plain = trained("third", "plan.measure=false", "layout.micro_batch=4")
    assert MEASURING not in without
    assert "step time, s" not in without
    assert plain == pytest.approx(losses, abs=1e-5)


def test_a_short_run_measures_nothing(tmp_path: Path) -> None:
    result = phalanx("train", *TINY, "layout=single", "train.steps=4", f"run_dir={tmp_path / 'a'}")
    assert result.status == 0, result.errors
    assert MEASURING not in result.output
