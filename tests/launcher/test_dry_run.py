"""`phalanx train --dry-run` says all and does nothing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from launcher.cli import guarded
from launcher.dry_run import app
from tests.cli import TINY, phalanx

GPUS = ["cluster=dgx_a100", "cluster.nodes=1", "layout=gpt3_1.3b", "layout.micro_batch=1"]


class DryRun:
    """`phalanx train WORDS` in this process, in an empty folder with an empty cache."""

    def __init__(
        self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
    ) -> None:
        self._patch, self._capsys, self.folder = patch, capsys, folder
        patch.setenv("HYDRA_FULL_ERROR", "1")
        patch.setenv("PHALANX_CACHE", str(folder / "cache"))
        patch.chdir(folder)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        self._patch.setattr(sys, "argv", ["phalanx train", *TINY, *words, "--dry-run"])
        status = guarded(lambda: pytest.fail("it was begun"))
        said = self._capsys.readouterr()
        return status, said.out, said.err


@pytest.fixture
def dry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> DryRun:
    return DryRun(monkeypatch, capsys, tmp_path)


def test_a_new_run(dry: DryRun) -> None:
    status, out, err = dry("layout=tp2", "train.steps=6")
    assert (status, err) == (0, "")
    for line in (
        "layout 2x1: 2 ranks (tensor x pipeline)\n",
        "LICENSE, not prepared\n",
        f"run      {dry.folder}/runs/gpt3_nano-2x1-",
        "recipe   optimizer adam, learning rate 0.002, cosine, weight decay 0.1",
        "starts   with new weights",
        "launch   2 ranks on this machine",
        "memory   ",
        "cost     phalanx plan ",
        "dry run: nothing was started or written",
    ):
        assert line in out
    assert list(dry.folder.iterdir()) == []


def test_several_runs_leave_nothing(dry: DryRun) -> None:
    status, out, _ = dry("layout=single", "--multirun", "train.seed=1,2")
    assert status == 0
    assert "-train.seed_1\n" in out
    assert "-train.seed_2\n" in out
    assert list(dry.folder.iterdir()) == []


def test_a_run_that_goes_on(
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "copy", symlinks=True))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    words = ["train.steps=9", f"run_dir={run}", "layout=dp2", "--dryrun"]
    monkeypatch.setattr(sys, "argv", ["phalanx train", *words])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert guarded(app) == 0
    out = capsys.readouterr().out
    assert f"starts   going on from {run}/checkpoints/step_00000006, after step 6 of 9" in out
    assert "mixture of " in out
    assert f"cost     phalanx plan run_dir={run} train.steps=9 layout=dp2 shows more" in out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    monkeypatch.setattr(sys, "argv", ["phalanx train", f"run_dir={run}", "--dryrun"])
    assert guarded(app) == 0
    assert "starts   nothing to do: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["layout.tensor=3"], "layout.tensor=3: 4 heads and"),
        (["run_dir=full"], "run_dir=full: is not empty and holds no run"),
        (["corpus.text=no/such"], "corpus.text: no file or folder no/such"),
        (["checkpoint=no/such"], "checkpoint=no/such: there is no such folder"),
        (["train.sed=1"], "train.sed: there is no such setting"),
    ],
)
def test_what_would_be_refused(dry: DryRun, words: list[str], told: str) -> None:
    (dry.folder / "full").mkdir()
    (dry.folder / "full" / "notes.txt").write_text("mine")
    status, _, err = dry("layout=single", *words)
    assert status == 2
    assert told in err
    assert [path.name for path in dry.folder.iterdir()] == ["full"]


def test_a_job_is_shown_although_its_text_is_elsewhere(dry: DryRun) -> None:
    status, out, err = dry(*GPUS, "launch=slurm", "launch.partition=gpu", "corpus.text=/no/text")
    assert status == 2
    assert "corpus.text: no file or folder /no/text" in err
    assert "launch   8 ranks by this job.sbatch:\n#!/bin/bash\n#SBATCH --job-name" in out
    assert "#SBATCH --partition=gpu" in out
    _, _, err = dry(*GPUS, "launch=slurm")
    assert "is not prepared, and a job is no place for that; first: phalanx prepare" in err
    assert list(dry.folder.iterdir()) == []


def test_commands_of_torchrun_are_shown(dry: DryRun) -> None:
    words = ["launch=torchrun", "launch.address=node1", "layout=tp2", "cluster.nodes=2"]
    words += ["cluster.gpus_per_node=1", "device=cpu"]
    status, out, err = dry(*words)
    assert status == 2
    assert "launch   2 ranks by torchrun:\nnode 0: " in out
    assert "\nnode 1: " in out
    assert "is not prepared, and a job is no place for that" in err
    status, out, _ = dry(*words, "launch.submit=false")
    assert status == 0
    assert "missing  corpus " in out
    status, out, _ = dry(*words, "launch.node=1")
    assert status == 0
    assert out.count("\nnode ") == 1
    assert list(dry.folder.iterdir()) == []


def test_only_trainings_have_one() -> None:
    result = phalanx("plan", "--dry-run")
    assert result.status == 2
    assert "--dry-run: `phalanx plan` has none; nearest: phalanx train --dry-run" in result.errors


def test_under_the_name_that_torchrun_starts(tmp_path: Path) -> None:
    words = ["layout=single", "--dry-run", f"run_dir={tmp_path}/run"]
    result = phalanx.python("-m", "launcher.train", *TINY, *words)
    assert result.status == 0, result.errors
    assert "dry run: nothing was started or written" in result.output
    assert not (tmp_path / "run").exists()
