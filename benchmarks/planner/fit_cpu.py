"""Fits the planner's constants of this kind of machine's CPU to steps measured here.

    python -m benchmarks.planner.fit_cpu  # trains some minutes, prints, writes calibration.json

Ranks share the cores and gloo goes through memory, so the constants are rough: what they are for is
the order of magnitude that `phalanx train` shows beside its own time on a laptop.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from benchmarks.planner.constants import Floats
from benchmarks.planner.fit import TARGET
from launcher.command_line.compose import compose_run
from parallel.layout import Layout
from parallel.planner.inputs.calibration import Constants, Overheads
from parallel.planner.inputs.cpu import NAME, cpu_machine
from parallel.planner.inputs.job import Job
from parallel.planner.timing.step import Step

LAYOUTS = (
    "layout=single",
    "layout=tp2",
    "layout=pp2",
    "layout=dp2",
    "layout=tp2_pp2",
    "layout=tp4",
    "layout=pp2_interleaved",
    "layout=single layout.recompute=full",
    "layout=pp2 engine=deepspeed",
    "layout=single model.layers=8 model.hidden=512 model.heads=8",
    "layout=tp2 model.layers=8 model.hidden=512 model.heads=8",
)
STEPS = 10
SETTLED = 3
START = Constants(
    matmul=0.5,
    memory=0.3,
    attention=0.1,
    kernel_us=20.0,
    links=0.2,
    network=0.2,
    hop=0.5,
    hop_interleaved=0.5,
    overlap=0.5,
    depth=100.0,
    waves=0.0,
    misaligned=1.0,
    tensor_us=200.0,
    hop_us=300.0,
    gather_us=100.0,
)
FITTED = ("matmul", "memory", "attention", "kernel_us", "links", "tensor_us", "hop_us")
SHARES = ("matmul", "memory", "attention", "links")
PRIOR = 1.0  # how far, in logarithms, a constant may usually go from its start


def measure(overrides: list[str]) -> tuple[float, float]:
    """Seconds of a settled step (the median), and GiB of rank 0."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        words = ["train", *overrides, f"run_dir={run_dir}", f"train.steps={STEPS}"]
        quiet = ["train.save_every=0", "train.eval_every=0", "log.tensorboard=false", "device=cpu"]
        subprocess.run(
            [sys.executable, "-m", "launcher", *words, *quiet], check=True, capture_output=True
        )
        lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "step_time_s" in row][SETTLED:]
    return statistics.median(row["step_time_s"] for row in rows), rows[-1]["memory_gib"]


def main() -> None:
    jobs, seconds, memories = [], [], []
    for words in LAYOUTS:
        run = compose_run(words.split())
        layout = Layout.resolve(run.layout, None)
        time, memory = measure(words.split())
        jobs.append(Job.of(run, layout))
        seconds.append(time)
        memories.append(memory)
        print(f"{words:<62} {time:8.3f} s {memory:6.2f} GiB", flush=True)
    machines = [cpu_machine(job.layout.world_size) for job in jobs]

    def constants(x: Floats) -> Constants:
        values = {
            n: getattr(START, n) * math.exp(PRIOR * v) for n, v in zip(FITTED, x, strict=True)
        }
        return replace(START, **{n: min(v, 1.0) if n in SHARES else v for n, v in values.items()})

    def planned(x: Floats) -> list[float]:
        chosen = constants(x)
        return [Step(j, m, chosen).time().seconds for j, m in zip(jobs, machines, strict=True)]

    def residuals(x: Floats) -> Floats:
        logs = [math.log(p / s) / 0.1 for p, s in zip(planned(x), seconds, strict=True)]
        return np.concatenate([logs, x])

    x = least_squares(residuals, np.zeros(len(FITTED)), loss="soft_l1").x
    for words, time, plan in zip(LAYOUTS, seconds, planned(x), strict=True):
        print(f"{words:<62} {time:8.3f} s {plan:8.3f} s {(plan / time - 1) * 100:+6.1f} %")
    write(constants(x), len(jobs), _framework(jobs, memories))


def _framework(jobs: list[Job], memories: list[float]) -> float:
    """GiB of a process beside its tensors: the median of what is left over."""
    from parallel.planner.memory.stages import stage_memories

    nothing = Overheads(framework_gib=0.0)
    left = [
        memory - stage_memories(job, nothing)[0].total / 2**30
        for job, memory in zip(jobs, memories, strict=True)
    ]
    return round(statistics.median(left), 3)


def write(constants: Constants, runs: int, framework_gib: float) -> None:
    data = json.loads(TARGET.read_text(encoding="utf-8"))
    values = {n: float(f"{getattr(constants, n):.4g}") for n in Constants.__dataclass_fields__}
    data["software"]["phalanx"]["gpus"][NAME] = {
        "basis": f"{runs} runs of ours on two cores",
        "constants": values,
        "overheads": {"framework_gib": framework_gib, "activations": 1.0},
    }
    TARGET.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
