"""Folders of Phalanx's names in the current folder are not taken for its packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.command_line import import_path
from tests.cli import ROOT, TIMEOUT_S, TINY, environment


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder of somebody's with our top-level names in it."""
    for name in ("models", "configs", "corpus", "parallel", "slurm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    return tmp_path


def test_a_run_starts_there(crowded: Path) -> None:
    """`-m launcher.train` itself, its ranks, and the processes that prepare the text."""
    settings = [*TINY, "layout=single", "train.steps=1", "run_dir=run", "corpus.workers=2"]
    done = subprocess.run(
        [sys.executable, "-m", "launcher.train", *settings],
        cwd=crowded,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (crowded / "run" / "DONE").exists()


def test_a_checkout_that_is_not_installed_tells_its_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setattr(sys, "path", [str(ROOT), "/usr/lib/python"])
    import_path.settle()
    assert sys.path[0] == str(ROOT)
    assert os.environ["PYTHONPATH"] == f"{ROOT}:/mine"


def test_the_current_folder_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(ROOT)])
    import_path.settle()
    assert sys.path == [str(ROOT)]
    assert os.environ["PYTHONPATH"] == "/mine"
