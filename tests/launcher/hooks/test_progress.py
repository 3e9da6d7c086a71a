from __future__ import annotations

import io
from dataclasses import replace

from launcher.hooks.progress import ProgressBar, ProgressLines
from tests.launcher.hooks.test_metrics import RECORD


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


def test_the_bar_shows_what_a_line_shows() -> None:
    out = io.StringIO()
    bar = ProgressBar(out, 1, 2)
    bar.after_step(replace(RECORD, mfu=0.5))
    bar.after_evaluation(1, 1.5)
    bar.at_end()
    assert "held-out text 1.5000" in out.getvalue()
    assert "MFU 50.0 %" in out.getvalue()
