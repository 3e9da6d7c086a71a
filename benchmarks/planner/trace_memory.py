"""The trace's and the plan's peak memory against torch's CUDA allocator, on one GPU.

    python -m benchmarks.planner.trace_memory [layout or other overrides ...]

Each case is one rank: a process of its own takes two steps on the GPU and reads the allocator's
peak of the second; another traces the same on fake tensors. The goal is 2 % for the trace.
"""

from __future__ import annotations

import os
import subprocess
import sys

CASES = (
    "layout.micro_batch=1",
    "layout.micro_batch=4",
    "layout.micro_batch=4 layout.recompute=selective",
    "layout.micro_batch=4 layout.recompute=full",
    "model=gpt3_350m layout.micro_batch=2",
    "model=gpt3_1.3b layout.micro_batch=2",
    "engine=deepspeed layout.micro_batch=4",
    "engine=deepspeed layout.micro_batch=4 layout.recompute=full",
)
COMMON = (
    "model=gpt3_125m layout=single device=cuda precision=bf16 cluster=dgx_h200 "
    "train.global_batch=8 optimizer.ramp_tokens=0"
)


def measured(overrides: list[str]) -> int:
    """Bytes at the peak of a second step, as the CUDA allocator counts them."""
    os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29517")
    import torch

    from launcher.command_line.compose import compose_run
    from launcher.failure.watchdog import Watchdog
    from launcher.start.world import joined_world
    from parallel.engines.base import Batch
    from parallel.engines.running import running_engine
    from parallel.layout import Layout

    run = compose_run(overrides)
    layout = Layout.resolve(run.layout, None)
    with (
        joined_world(run, Watchdog.alone()) as device,
        running_engine(run, layout, device) as engine,
    ):
        shape = (layout.micro_batch, run.model.context + 1)
        count = run.train.global_batch // layout.micro_batch
        tokens = [torch.randint(run.model.vocab, shape) for _ in range(count)]
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            engine.train_step(Batch(micro_batches=tokens), 1e-4)
        return int(torch.cuda.max_memory_allocated())


def traced(overrides: list[str]) -> tuple[int, float]:
    """Bytes at the peak by the trace, and by the plan."""
    from configs.schema import DeviceName
    from launcher.command_line.compose import compose_run
    from parallel.layout import Layout
    from parallel.planner.plan import Plan
    from parallel.planner.trace.trace import trace

    run = compose_run(overrides)
    layout = Layout.resolve(run.layout, 1)
    plan = Plan.of(run, layout, DeviceName.cuda)
    return trace(run, layout, 0, device=DeviceName.cuda).peak_bytes, plan.memories[0].allocated


def apart(what: str, overrides: list[str]) -> list[float]:
    """What one of the functions above gives, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.planner.trace_memory", f"--{what}", *overrides]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{' '.join(overrides)}: {answer.stderr.strip().splitlines()[-1]}")
    return [float(word) for word in answer.stdout.split()[-2:]]


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--measured"]:
        print(measured(arguments[1:]), 0)
        return
    if arguments[:1] == ["--traced"]:
        print(*traced(arguments[1:]))
        return
    import torch

    from launcher.command_line.compose import merge_overrides

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: nothing to compare the trace with")
    print(f"{torch.cuda.get_device_name()}, GiB: case, allocator, trace, plan")
    for case in [" ".join(arguments)] if arguments else CASES:
        overrides = merge_overrides(COMMON.split(), case.split())
        real, _ = apart("measured", overrides)
        by_trace, by_plan = apart("traced", overrides)
        print(
            f"{case:<60} {real / 2**30:8.3f} {by_trace / 2**30:8.3f} "
            f"({(by_trace / real - 1) * 100:+.2f} %) {by_plan / 2**30:8.3f} "
            f"({(by_plan / real - 1) * 100:+.2f} %)",
            flush=True,
        )


if __name__ == "__main__":
    main()
