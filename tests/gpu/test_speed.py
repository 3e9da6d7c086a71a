"""On one GPU: the share of its peak that training reaches, and the memory that a trace foresees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.planner import trace_memory
from launcher.command_line.compose import merge_overrides
from tests.cli import phalanx
from tests.gpu.kit import Check
from tests.gpu.machine import Machine

pytestmark = pytest.mark.gpu

GOALS = {"gpt3_125m": None, "gpt3_1.3b": 0.5, "gpt3_2.7b": None}  # MFU; see benchmarks/README.md
WITHIN = 0.02
MEMORY = (
    "layout.micro_batch=4",
    "layout.micro_batch=4 layout.recompute=full",
    "engine=deepspeed layout.micro_batch=4",
)


@pytest.mark.parametrize("model", GOALS)
def test_share_of_the_peak(machine: Machine, check: Check, tmp_path: Path, model: str) -> None:
    machine.needs_cuda("the peak rate of a CPU is not known")
    out = tmp_path / "gpu.json"
    options = ["--models", model, "--parts", "models", "--out", str(out)]
    done = phalanx.python("-m", "benchmarks.gpu", *options)
    found = json.loads(out.read_text(encoding="utf-8"))
    if any("OutOfMemoryError" in words for words in found["failures"].values()):
        pytest.skip(f"{model} does not fit into this GPU's memory")
    assert done.status == 0, done.errors
    measured, goal = found["models"][model], GOALS[model]
    for name in ("mfu", "step_s", "planned_step_s", "memory_gib", "planned_memory_gib", "tflops"):
        check.note(name, measured[name])
    if goal is not None and measured["mfu"] is not None:
        check.within("MFU lacks of its goal", goal - measured["mfu"], 0.0)


@pytest.mark.parametrize("case", MEMORY)
def test_a_trace_foresees_the_peak_memory(machine: Machine, check: Check, case: str) -> None:
    machine.needs_cuda("a CPU has no allocator that tells its peak")
    overrides = merge_overrides(trace_memory.COMMON.split(), case.split())
    try:
        measured, _ = trace_memory.apart("measured", overrides)
        traced, _ = trace_memory.apart("traced", overrides)
    except SystemExit as error:
        pytest.fail(str(error))
    check.note("allocator, GiB", measured / 2**30)
    check.note("trace, GiB", traced / 2**30)
    check.within("trace against allocator", abs(traced / measured - 1), WITHIN)
