"""Several runs of one command: what sets each apart, and what they may not share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from configs.schema import Run
from launcher.cli import guarded
from launcher.command_line.compose import hydra_app
from launcher.run.multirun import job, own_name
from launcher.run.resolve import resolve
from launcher.run.run_dir import choose_folder

Composed = list[tuple[Run, list[str], str]]


def composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str) -> Composed:
    """Each job's run, overrides and folder."""
    found: Composed = []

    def note(run: Run, overrides: list[str]) -> None:
        found.append((run, overrides, str(choose_folder(resolve(run)).path)))

    monkeypatch.chdir(tmp_path)
    sweep = f"hydra.sweep.dir={tmp_path}/sweep"
    monkeypatch.setattr(sys, "argv", ["phalanx train", "layout=single", *words, "-m", sweep])
    assert guarded(hydra_app(note)) == 0
    return found


def test_folders_say_what_differs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jobs = composed(monkeypatch, tmp_path, "train.seed=1,2", "train.steps=5", "precision=bf16,fp16")
    ends = [path.rpartition("-1x1-")[2].split("-", 2)[2] for _, _, path in jobs]
    assert ends == [
        f"train.seed_{seed}-precision_{precision}"
        for seed in (1, 2)
        for precision in ("bf16", "fp16")
    ]


def test_one_run_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ((_, _, path),) = composed(monkeypatch, tmp_path, "train.seed=1")
    assert "seed" not in path


def test_a_name_is_safe_for_files() -> None:
    jobs = [(["corpus.text=/a b/*.txt", "x=1"], None), (["corpus.text=c", "x=1"], None)]
    with job(0, jobs):
        assert own_name() == "-corpus.text_a_b_.txt"
    with job(0, [([f"corpus.text={'a' * 500}"], None), ([], None)]):
        assert len(own_name()) < 128
    assert own_name() == ""


def test_one_run_dir_for_all_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = f"hydra.sweep.dir={tmp_path}/sweep"
    words = ["layout=single", "train.seed=1,2", "run_dir=mine", "-m", sweep]
    monkeypatch.setattr(sys, "argv", ["phalanx train", *words])
    begun: list[Run] = []

    def begin(run: Run, _overrides: list[str]) -> None:
        choose_folder(resolve(run))
        begun.append(run)

    assert guarded(hydra_app(begin)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "phalanx: run_dir=mine: is one for 2 runs of --multirun; nearest: "
        "'run_dir=mine/${hydra:job.num}', or none, for a new one each"
    ]
    assert not begun


@pytest.mark.parametrize(
    ("run_dir", "folders"),
    [
        ("mine/${hydra:job.num}", ["mine/0", "mine/1"]),
        ("mine-${train.seed}", ["mine-3", "mine-4"]),
    ],
)
def test_run_dirs_of_their_own(
    run_dir: str, folders: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jobs = composed(monkeypatch, tmp_path, "train.seed=3,4", f"run_dir={run_dir}")
    assert [path for _, _, path in jobs] == [str(tmp_path / folder) for folder in folders]
    assert [run.run_dir for run, _, _ in jobs] == folders
    assert all(overrides[-1].startswith("run_dir=mine") for _, overrides, _ in jobs)
