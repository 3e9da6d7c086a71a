from __future__ import annotations

from pathlib import Path

from launcher.training.callbacks.wandb import run_id


def test_a_run_keeps_its_id(tmp_path: Path) -> None:
    assert run_id(tmp_path) == run_id(tmp_path)
    (tmp_path / "other").mkdir()
    assert run_id(tmp_path / "other") != run_id(tmp_path)
