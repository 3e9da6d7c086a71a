"""How long the planner takes, on one core: one plan, two searches, one trace.

    taskset -c 0 python -m benchmarks.planner.speed [--no-trace]

Goals: a plan in 50 ms after imports, GPT-3 175B searched on 1,024 GPUs in 10 s, on 3,072 in 30 s, a
rank of it traced through 24 micro-batches in 40 s.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from configs.schema import DeviceName
from launcher.command_line.compose import compose_run
from parallel.layout import Layout
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.plan import Plan
from parallel.planner.report.as_json import answer
from parallel.planner.search import search

COMMON = "model=gpt3_175b cluster=dgx_a100 precision=bf16 optimizer.ramp_tokens=0"


def seconds(work: Callable[[], object], times: int) -> str:
    """The median and the span of some runs."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return f"{statistics.median(taken):8.3f} s ({min(taken):.3f} to {max(taken):.3f})"


def one_plan() -> None:
    overrides = f"{COMMON} cluster.nodes=128 layout=gpt3_175b train.global_batch=1536"
    run = compose_run(overrides.split())
    layout = Layout.resolve(run.layout, 1024)
    answer(Plan.of(run, layout, DeviceName.cuda))  # files are read once
    print(
        f"{'one plan of 175B on 1,024 GPUs':<44}",
        seconds(lambda: answer(Plan.of(run, layout, DeviceName.cuda)), 9),
    )


def one_search(nodes: int) -> None:
    run = compose_run(f"{COMMON} cluster.nodes={nodes} train.global_batch=1536".split())
    machine = machine_of(run.cluster)
    calibration = calibrated(run.cluster.software, machine.gpu)
    found = search(run, nodes * 8, DeviceName.cuda, machine, calibration)
    name = f"search of 175B on {nodes * 8:,} GPUs, {found.valid:,} valid layouts"
    print(
        f"{name:<44}",
        seconds(lambda: search(run, nodes * 8, DeviceName.cuda, machine, calibration), 3),
    )


def one_trace() -> None:
    from parallel.planner.trace.trace import trace

    overrides = f"{COMMON} cluster.nodes=128 layout=gpt3_175b layout.interleave=1"
    run = compose_run([*overrides.split(), "train.global_batch=192", "layout.data=8"])
    layout = Layout.resolve(run.layout, 1024)
    trace(run, layout, 0, device=DeviceName.cuda)  # imports, and what torch learns of operations
    print(
        f"{'trace of its rank 0, 24 micro-batches':<44}",
        seconds(lambda: trace(run, layout, 0, device=DeviceName.cuda), 1),
    )


def main() -> None:
    one_plan()
    one_search(128)
    one_search(384)
    if "--no-trace" not in sys.argv:
        one_trace()


if __name__ == "__main__":
    main()
