"""Fits the planner's constants of this kind of machine's CPU to steps measured here.

    python -m benchmarks.planner.fit_cpu           # trains some minutes, writes calibration.json
    python -m benchmarks.planner.fit_cpu --memory  # only what a process takes beside its tensors

Ranks share the cores and gloo goes through memory, so the constants are rough: they serve plans of
layouts that `phalanx train` has measured no smaller steps of yet, and the shares of a step's parts.
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
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from benchmarks.planner.constants import Floats
from benchmarks.planner.fit import TARGET
from configs.schema import DeviceName, EngineName
from launcher.command_line.compose import compose_run
from parallel.layout import Layout
from parallel.planner.inputs.calibration import Constants, Overheads
from parallel.planner.inputs.cpu import NAME, cpu_machine
from parallel.planner.inputs.job import Job
from parallel.planner.memory.stages import Memory
from parallel.planner.plan import Plan
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
# Of a process beside its tensors, under each engine, in runs that save and evaluate as others do.
MEMORY = [
    f"model={model} layout={layout} engine={engine}"
    for engine in EngineName
    for model in ("gpt3_nano", "llama_nano")
    for layout in ("single", "tp2_pp2")
]
SAVING = ("train.steps=30", "train.save_every=10", "train.eval_every=10")
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
    hop_overlapped=0.5,
    ring=0.0,
    hidden=0.0,
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


def trained(words: list[str]) -> list[dict[str, float]]:
    """The lines of a run's steps in its metrics.jsonl."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "launcher", "train", *words, f"run_dir={run_dir}"]
        subprocess.run([*command, "device=cpu"], check=True, capture_output=True)
        lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if "step_time_s" in row]


def measure(overrides: list[str]) -> float:
    """Seconds of a settled step (the median)."""
    quiet = ["train.save_every=0", "train.eval_every=0", "log.tensorboard=false"]
    rows = trained([*overrides, f"train.steps={STEPS}", *quiet])
    return statistics.median(row["step_time_s"] for row in rows[SETTLED:])


def overheads() -> dict[str, float]:
    """What a process takes beside its tensors; prints what that comes to."""
    counted, peaks = [], []
    for words in MEMORY:
        run = compose_run(words.split())
        plan = Plan.of(run, Layout.resolve(run.layout, None), DeviceName.cpu)
        nothing = replace(plan.calibration, overheads=Overheads(framework_gib=0.0))
        counted.append(replace(plan, calibration=nothing).memories[0])
        peaks.append(trained([*words.split(), *SAVING])[-1]["memory_gib"])
        print(f"{words:<62} {peaks[-1]:6.3f} GiB", flush=True)
    return fitted_overheads(counted, peaks)


def fitted_overheads(counted: list[Memory], peaks: list[float]) -> dict[str, float]:
    """Of runs in the order of MEMORY: the medians of what is left over, in GiB."""
    tensors = [memory.total / 2**30 for memory in counted]
    left: dict[bool, list[float]] = {False: [], True: []}
    of_deepspeed = [f"engine={EngineName.deepspeed}" in words for words in MEMORY]
    for is_deepspeed, counts, peak in zip(of_deepspeed, tensors, peaks, strict=True):
        left[is_deepspeed].append(peak - counts)
    beside = {each: statistics.median(left[each]) for each in left}
    for words, is_deepspeed, counts, peak in zip(MEMORY, of_deepspeed, tensors, peaks, strict=True):
        planned = counts + beside[is_deepspeed]
        off = (planned / peak - 1) * 100
        print(f"{words:<62} {peak:6.3f} GiB {planned:6.3f} GiB {off:+6.1f} %")
    return {
        "framework_gib": round(beside[False], 3),
        "deepspeed_gib": round(beside[True] - beside[False], 3),
        "activations": 1.0,
    }


def main() -> None:
    if sys.argv[1:] == ["--memory"]:
        write({"overheads": overheads()})
        return
    jobs, seconds = [], []
    for words in LAYOUTS:
        run = compose_run(words.split())
        layout = Layout.resolve(run.layout, None)
        time = measure(words.split())
        jobs.append(Job.of(run, layout))
        seconds.append(time)
        print(f"{words:<62} {time:8.3f} s", flush=True)
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
    fitted = constants(x)
    values = {n: float(f"{getattr(fitted, n):.4g}") for n in Constants.__dataclass_fields__}
    basis = f"{len(jobs)} runs of ours on two cores"
    write({"basis": basis, "constants": values, "overheads": overheads()})


def write(found: dict[str, Any]) -> None:
    """Puts what was found into calibration.json."""
    data = json.loads(TARGET.read_text(encoding="utf-8"))
    data["software"]["phalanx"]["gpus"].setdefault(NAME, {}).update(found)
    TARGET.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
