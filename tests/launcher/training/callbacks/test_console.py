from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest

from launcher.training.callbacks.console import ProgressBar, ProgressLines
from launcher.worker import _Terminal
from tests.launcher.training.callbacks.test_metrics import RECORD


def test_lines_show_the_first_and_the_last_step() -> None:
    out = io.StringIO()
    lines = ProgressLines(out, 1, 5)
    for step in range(1, 6):
        lines.after_step(replace(RECORD, step=step))
    lines.after_evaluation(5, 1.25)
    said = out.getvalue().splitlines()
    assert said[0].startswith("step 1/5  loss 2.0000  grad norm 1.000  512 tokens/s  0.1 TFLOP/s")
    assert said[1].startswith("step 5/5")
    assert said[2] == "step 5: loss on held-out text 1.2500"


def test_the_bar_shows_what_a_line_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = io.StringIO()
    bar = ProgressBar(out, 1, 2)
    bar.after_step(replace(RECORD, mfu=0.5))
    bar.after_evaluation(1, 1.5)
    bar.at_end()
    assert "held-out text 1.5000" in out.getvalue()
    assert "MFU 50.0 %" in out.getvalue()


@pytest.mark.parametrize("columns", ["80", "60"])
def test_a_narrow_bar_keeps_its_numbers(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal = io.StringIO()
    bar = ProgressBar(terminal, 1, 150)
    bar.after_step(replace(RECORD, step=61))
    bar.at_end()
    assert " 61/150" in terminal.getvalue()
    assert "loss" in terminal.getvalue()


def test_a_terminal_that_is_gone_takes_no_run_along() -> None:
    reader, writer = os.pipe()
    terminal = _Terminal(os.fdopen(writer, "wb"), encoding="utf-8", line_buffering=True)
    os.close(reader)
    for _ in range(3):
        print("step 1", file=terminal, flush=True)
