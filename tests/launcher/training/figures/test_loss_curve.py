from __future__ import annotations

from pathlib import Path

from launcher.training.figures.loss_curve import draw
from tests.launcher.training.callbacks.test_metrics import record_steps


def test_draws_what_the_metrics_say(tmp_path: Path) -> None:
    record_steps(tmp_path / "metrics.jsonl", 1, 4, after_step=0)
    draw(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "a run")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_no_steps_no_picture(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "eval_loss": 2.0}\n')
    draw(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "a run")
    assert not (tmp_path / "loss.png").exists()


def test_a_name_is_no_formula(tmp_path: Path) -> None:
    record_steps(tmp_path / "metrics.jsonl", 1, 4, after_step=0)
    draw(tmp_path / "metrics.jsonl", tmp_path / "loss.png", r"a$\no{such$ [/] <b>")
    assert (tmp_path / "loss.png").exists()
