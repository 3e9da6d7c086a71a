"""A whole run as a user starts it: what it leaves, and that it can be stopped and moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState
from tests.cli import TINY, phalanx

KEYS = {
    "step",
    "loss",
    "grad_norm",
    "learning_rate",
    "samples",
    "tokens",
    "step_time_s",
    "tokens_per_s",
}


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def curve(run: Path) -> list[tuple[int, float, float]]:
    return [(r["step"], r["loss"], r["grad_norm"]) for r in rows(run) if "loss" in r]


def samples_read(run: Path) -> str:
    """The fingerprint in the newest checkpoint."""
    return TrainState.read(manifest.find(run)).sample_ids


def test_what_a_run_leaves(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "settings.yaml", "layout.txt", "loss.png", "tensorboard"} <= names
    steps = [row for row in rows(trained) if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    assert set(steps[0]) >= KEYS
    assert steps[-1]["samples"] == 48
    assert steps[-1]["tokens"] == 48 * 32
    assert [row["step"] for row in rows(trained) if "eval_loss" in row] == [6]
    saved = [path.name for path in manifest.complete_checkpoints(trained / "checkpoints")]
    assert saved == ["step_00000002", "step_00000004", "step_00000006"]
    assert (trained / "checkpoints" / "latest").resolve().name == "step_00000006"
    assert (trained / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert any((trained / "tensorboard").iterdir())


def traffic_is_as_predicted(output: str) -> None:
    """What a run shows at its end: collectives and bytes predicted are those counted."""
    compared = {
        line[:18].strip(): line[18:].split()[:2]
        for line in output.split("predicted beside measured")[1].splitlines()[1:]
    }
    assert "memory, GiB" in compared
    assert "step time, s" not in compared, "of a CPU nothing is known that would predict it"
    for name in ("collectives a step", "their bytes"):
        predicted, measured = compared[name]
        assert predicted == measured != "0"


def test_stopped_and_moved_to_another_layout(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = phalanx(
        "train",
        *TINY,
        "layout=tp2",
        "layout.micro_batch=2",
        "train.steps=6",
        "train.stop_after=3",
        run_dir=run,
    )
    assert first.status == 0, first.errors
    assert "2x1: 2 ranks" in first.output
    assert "what next:\n  # text from it\n  " in first.output
    assert "banded   8 tokens, by blocked attention" in first.output
    traffic_is_as_predicted(first.output)
    assert [step for step, _, _ in curve(run)] == [1, 2, 3]
    second = phalanx("train", "layout=pp2", "layout.micro_batch=2", run_dir=run)
    assert second.status == 0, second.errors
    assert "going on from" in second.output
    assert "what next" not in second.output
    traffic_is_as_predicted(second.output)
    for (step, loss, norm), (same, one_loss, one_norm) in zip(
        curve(run), curve(trained), strict=True
    ):
        assert step == same
        assert loss == pytest.approx(one_loss, rel=1e-5)
        assert norm == pytest.approx(one_norm, rel=1e-4)
    assert rows(run)[-1]["eval_loss"] == pytest.approx(rows(trained)[-1]["eval_loss"], rel=1e-5)
    assert samples_read(run) == samples_read(trained)


def test_traffic_of_a_ramped_batch_is_as_predicted(tmp_path: Path) -> None:
    ramp = ["optimizer.ramp_tokens=2000", "optimizer.ramp_start=4", "layout.micro_batch=2"]
    done = phalanx("train", *TINY, "layout=pp2", *ramp, "train.steps=3", run_dir=tmp_path / "run")
    assert done.status == 0, done.errors
    traffic_is_as_predicted(done.output)


def test_too_few_ranks_of_torchrun_are_told_of_last(tmp_path: Path) -> None:
    done = phalanx.python(
        *(
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "3",
            "-m",
            "launcher.train",
        ),
        *(*TINY, "layout=tp2_pp2", f"run_dir={tmp_path / 'run'}"),
    )
    assert done.status == 1
    ours = "a copy of the model takes"
    assert ours in done.errors
    assert ours in done.errors[done.errors.rindex("Root Cause") :]
    assert not (tmp_path / "run").exists()


def test_under_torchrun(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = phalanx.python(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "launcher.train",
        *TINY, "layout=dp2", "layout.micro_batch=2", "layout.zero=1", "train.steps=3",
        f"run_dir={run}",
    )  # fmt: skip
    assert done.status == 0, done.errors
    assert done.output.count("gpt3_nano") == 1, "rank 0 alone speaks"
    for (_, loss, norm), (_, one_loss, one_norm) in zip(curve(run), curve(trained), strict=False):
        assert loss == pytest.approx(one_loss, rel=2e-2)  # three steps decay faster than six
        assert norm == pytest.approx(one_norm, rel=5e-2)
    assert curve(run)[0][1] == pytest.approx(curve(trained)[0][1], rel=1e-6)


def test_going_back_to_an_earlier_checkpoint(tmp_path: Path, trained: Path) -> None:
    import shutil

    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    before = curve(run)
    earlier = run / "checkpoints" / "step_00000004"
    done = phalanx("train", f"checkpoint={earlier}", run_dir=run)
    assert done.status == 0, done.errors
    assert [row[0] for row in curve(run)] == [row[0] for row in before]
    for now, then in zip(curve(run), before, strict=True):
        assert now == pytest.approx(then, rel=1e-6)
    assert samples_read(run) == samples_read(trained)


def test_experts_over_ranks_and_on_one(tmp_path: Path) -> None:
    small = ["model=moe_nano", *TINY, "model.query_groups=2", "model.moe.experts=4"]
    widths = ["model.moe.feed_forward=16", "model.moe.shared=16", "log.experts_every=2"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    expected = phalanx("train", *small, *widths, "layout=single", "train.steps=4", run_dir=whole)
    assert expected.status == 0, expected.errors
    first = phalanx(
        "train", *small, *widths, "layout=ep2", "train.steps=4", "train.stop_after=2", run_dir=run
    )
    assert first.status == 0, first.errors
    assert "1x1x1x2-ep2: 2 ranks" in first.output
    assert "of a token: 2 of 4 experts" in first.output
    compared = first.output.split("predicted beside measured")[1].splitlines()
    [collectives] = [line.split() for line in compared if line.startswith("collectives a step")]
    assert collectives[3] == collectives[4]
    second = phalanx("train", "layout=single", run_dir=run)
    assert second.status == 0, second.errors
    assert [step for step, _, _ in curve(run)] == [1, 2, 3, 4]
    for mine, theirs in zip(rows(run), rows(whole), strict=True):
        for name in {"loss", "balance_loss", "router_entropy", "largest_load"} & theirs.keys():
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4), name
    loads = [json.loads(line) for line in (run / "experts.jsonl").read_text().splitlines()]
    assert [row["step"] for row in loads] == [2, 4]
    assert (run / "experts.png").read_bytes().startswith(b"\x89PNG")
    state = TrainState.read(manifest.find(run))
    assert len(state.routers["bias"]) == 4
    assert any(value != 0 for layer in state.routers["bias"] for value in layer)
