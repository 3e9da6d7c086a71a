"""How long the planner takes, on one core: one plan, searches of both engines, one trace.

    taskset -c 0 python -m benchmarks.planner.speed [--no-trace]

Goals: a plan in 50 ms after imports; searches as `SEARCHES` says; a rank of GPT-3 175B traced
through 24 micro-batches in 40 s.
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
from parallel.planner.search import Found, every_engine, search

SEARCHES = (  # what is searched, the nodes of 8 GPUs, and the seconds that it may take
    ("model=gpt3_175b cluster=dgx_a100 train.global_batch=1536 optimizer.ramp_tokens=0", 128, 10),
    ("model=gpt3_175b cluster=dgx_a100 train.global_batch=1536 optimizer.ramp_tokens=0", 384, 30),
    ("model=llama3_405b cluster=dgx_h100", 2048, 15),
    (
        "model=llama3_405b model.context=131072 train.global_batch=128 optimizer.ramp_tokens=0 "
        "cluster=dgx_h100",
        2048,
        15,
    ),
    ("model=llama3_70b cluster=dgx_h100", 64, 10),
    ("model=mixtral_8x7b cluster=dgx_h100 optimizer.ramp_tokens=0", 32, 30),
    ("model=qwen3_235b_a22b cluster=dgx_h100", 64, 30),
    ("model=qwen3_235b_a22b cluster=dgx_h100", 128, 30),
)
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
        f"{'one plan of 175B on 1,024 GPUs':<60}",
        seconds(lambda: answer(Plan.of(run, layout, DeviceName.cuda)), 9),
    )


def one_search(settings: str, nodes: int, goal: int) -> None:
    run = compose_run(f"{settings} precision=bf16 cluster.nodes={nodes}".split())
    machine = machine_of(run.cluster)
    calibration = calibrated(run.cluster.software, machine.gpu)

    def work() -> Found:
        return search(run, nodes * 8, DeviceName.cuda, machine, calibration, every_engine())

    found = work()
    context = f"{run.model.context // 1024}k"
    name = (
        f"{run.model.name} of {context} on {nodes * 8:,}: {found.valid:,} of {found.tried:,} valid"
    )
    print(f"{name:<60}", seconds(work, 3), f"goal {goal} s", flush=True)


def one_trace() -> None:
    from parallel.planner.trace.trace import trace

    overrides = f"{COMMON} cluster.nodes=128 layout=gpt3_175b layout.interleave=1"
    run = compose_run([*overrides.split(), "train.global_batch=192", "layout.data=8"])
    layout = Layout.resolve(run.layout, 1024)
    trace(run, layout, 0, device=DeviceName.cuda)  # imports, and what torch learns of operations
    print(
        f"{'trace of its rank 0, 24 micro-batches':<60}",
        seconds(lambda: trace(run, layout, 0, device=DeviceName.cuda), 1),
    )


def main() -> None:
    one_plan()
    for each in SEARCHES:
        one_search(*each)
    if "--no-trace" not in sys.argv:
        one_trace()


if __name__ == "__main__":
    main()
