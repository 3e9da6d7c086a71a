"""Finished runs on GPUs, as `phalanx train` leaves them, for tests of what is fitted to them.

No GPU is here, so their measured steps are those of a plan by constants that the planner does not
have.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from launcher.run.run_dir import RunFolder
from parallel.layout import Layout
from parallel.planner.inputs.calibration import Constants, calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.job import Job
from parallel.planner.timing.step import Step
from tests.runs import run_of

RUN = (
    "model=llama3_8b cluster=dgx_h100 device=cuda precision=bf16 optimizer.ramp_tokens=0 "
    "layout=single train.global_batch=32"
)
LAYOUTS = {
    "tensor": "layout.tensor=4 layout.data=2 layout.sequence_parallel=true",
    "pipeline": "layout.pipeline=4 layout.data=2",
    "data": "layout.data=8 layout.zero=1",
    "context": "layout.context=2 layout.data=4 layout.context_by=ring",
}


def truth() -> Constants:
    """What the runs' steps took."""
    known = calibrated("phalanx", "H100").constants
    return replace(known, matmul=known.matmul * 0.85, attention=known.attention * 1.4, kernel_us=25)


def finished_run(folder: Path, words: str, seconds: float | None = None, steps: int = 12) -> Path:
    """A run's folder; its steps took `seconds`, or what the true constants say."""
    run = run_of(f"{RUN} {words}")
    layout = Layout.resolve(run.layout, None)
    run = replace(run, layout=layout.as_config())
    if seconds is None:
        seconds = Step(Job.of(run, layout), machine_of(run.cluster), truth()).time().seconds
    RunFolder(folder).write(run, run, "")
    draw = random.Random(words)
    tokens = 32 * run.model.context
    took = [seconds * (9 if step < 3 else draw.uniform(0.99, 1.01)) for step in range(steps)]
    rows = [
        {"step": step, "step_time_s": each, "tokens_per_s": tokens / each, "loss": 1.0}
        for step, each in enumerate(took, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder
