"""A loss that is no number, or spikes: the run stops, or goes back and past what did it."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import RunError
from configs.schema import TrainConfig
from launcher.run.jsonl import read_lines
from launcher.training.loss_spikes import BadLossError, LossGuard, Skips, losses_before
from parallel.engines.base import StepResult
from tests.cli import TINY, phalanx
from tests.runs import run_of

SPIKES = [*TINY, "layout=tp2", "train.steps=12", "train.eval_every=4"]
# In so small a run, one batch being harder than the two before it is spike enough.
SPIKES += ["train.spike_factor=1.002", "train.spike_window=2"]
SAME = ("step", "loss", "grad_norm", "learning_rate", "samples", "eval_loss", "skipped")


def settings(**changes: object) -> TrainConfig:
    return replace(run_of("").train, **changes)  # type: ignore[arg-type]


def result(loss: float, grad_norm: float = 1.0, *, skipped: bool = False) -> StepResult:
    return StepResult(loss=loss, grad_norm=grad_norm, skipped=skipped, loss_scale=1.0)


def test_what_is_no_number_is_bad() -> None:
    guard = LossGuard(settings(), [])
    guard.judge(1, result(3.0))
    guard.judge(2, result(math.nan, skipped=True))  # fp16's scale was too large
    for loss, norm in ((math.nan, 1.0), (math.inf, 1.0), (3.0, math.nan), (3.0, math.inf)):
        with pytest.raises(BadLossError, match="step 3: loss"):
            guard.judge(3, result(loss, norm))


def test_a_spike_is_so_many_times_the_median() -> None:
    guard = LossGuard(settings(spike_factor=1.5, spike_window=20), [2.0] * 10)
    guard.judge(1, result(2.9))
    with pytest.raises(BadLossError, match=r"3\.1000 is 1\.55 times the usual 2\.0000"):
        guard.judge(2, result(3.1))
    LossGuard(settings(spike_factor=None), [2.0] * 10).judge(1, result(300.0))
    # Too few losses to know what is usual.
    LossGuard(settings(spike_factor=1.5, spike_window=20), [2.0] * 9).judge(1, result(300.0))


def test_skips_are_written_down_and_have_an_end(tmp_path: Path) -> None:
    skips = Skips(tmp_path / "skips.jsonl")
    train = settings(skip_batches=3, max_skips=4)
    assert skips.add(BadLossError(20, "loss nan"), train, back_to=10) == [18, 19, 20]
    assert skips.add(BadLossError(12, "loss nan"), train, back_to=11) == [12]
    assert sorted(skips.read()) == [12, 18, 19, 20]
    assert skips.read()[18].because_of == 20
    with pytest.raises(RunError, match="4 steps were skipped already"):
        skips.add(BadLossError(30, "loss nan"), train, back_to=25)


def same(run: Path) -> list[dict[str, object]]:
    return [
        {key: row[key] for key in SAME if key in row} for row in read_lines(run / "metrics.jsonl")
    ]


def test_back_and_past_it_is_as_if_the_step_had_never_been_taken(tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    done = phalanx("train", *SPIKES, "train.on_bad_loss=skip", run_dir=run)
    assert done.status == 0, done.errors
    assert "times the usual" in done.output
    skipped = [json.loads(line)["step"] for line in (run / "skips.jsonl").read_text().splitlines()]
    assert skipped
    rows = {row["step"]: row for row in read_lines(run / "metrics.jsonl") if "loss" in row}
    assert list(rows) == list(range(1, 13))
    assert [step for step in rows if rows[step]["loss"] is None] == sorted(skipped)
    # A run that knows from the start which steps it will not take.
    first = phalanx("train", *SPIKES, "train.on_bad_loss=skip", "train.stop_after=2", run_dir=again)
    assert first.status == 0, first.errors
    shutil.copy(run / "skips.jsonl", again)
    second = phalanx("train", "train.on_bad_loss=skip", run_dir=again)
    assert second.status == 0, second.errors
    assert same(again) == same(run)
    assert (again / "skips.jsonl").read_text() == (run / "skips.jsonl").read_text()
    assert losses_before(run / "metrics.jsonl", 12)[-1] == rows[12]["loss"]


def test_stopped_where_it_is_not_to_be_skipped(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = phalanx("train", *SPIKES, run_dir=run)
    assert done.status == 1
    assert "times the usual" in done.errors
    assert "nearest: train.on_bad_loss=skip" in done.errors
    assert "what to do" in done.errors
    assert not (run / "skips.jsonl").exists()
    assert (run / "failure.txt").read_text().startswith("rank")
