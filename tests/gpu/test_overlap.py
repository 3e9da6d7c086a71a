"""Profiles of training: the host waits no more often with more micro-batches, and collectives run
beside matmuls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu.kit import Check
from tests.gpu.machine import Machine
from tests.gpu.profiles import Profile, read_profile

pytestmark = pytest.mark.gpu

# The window begins after what is done once: compiling, Adam's moments, the first evaluation.
FIRST, STEPS = 4, 2
TRAIN = [
    "train",
    f"train.steps={FIRST + STEPS}",
    f"profile.start={FIRST}",
    f"profile.steps={STEPS}",
    "train.save_every=0",
    "train.eval_every=0",
]
# Megatron-core cuts gradients into buckets of 40 million: a smaller model has one, which is reduced
# when the backward pass is over.
LARGE = ["model.layers=12", "model.hidden=768", "model.heads=12", "precision=bf16"]


def profiled(machine: Machine, run: Path, *settings: str) -> Profile:
    """A profile of rank 0."""
    machine.phalanx(*TRAIN, *machine.settings, *settings, run_dir=run)
    found = read_profile(run / "profile" / "rank_0.json")
    assert found.operations > 100, "the profile is empty"
    return found


def test_waits_do_not_grow_with_micro_batches(
    machine: Machine, check: Check, tmp_path: Path
) -> None:
    """A step reads its loss, its gradient's norm and whether to stop: once, not a micro-batch."""
    few, many = (
        profiled(machine, tmp_path / f"mb{size}", "layout=single", f"layout.micro_batch={size}")
        for size in (4, 2)
    )
    for name, count in sorted(few.waits.items()):
        check.note(f"{name}, per step", count / STEPS)
    more = {name: count - few.waits[name] for name, count in many.waits.items()}
    check.within("more waits with twice the micro-batches", float(sum(more.values())), 0.0)
    if machine.is_cuda:
        assert few.waits, "a step that reads its loss has to wait"


@pytest.mark.parametrize(
    "layout",
    [
        ["layout=dp2", "layout.zero=1"],
        ["layout=tp2", "layout.sequence_parallel=true"],
    ],
    ids=["data, ZeRO 1", "tensor, sequence parallel"],
)
def test_collectives_run_beside_matmuls(
    machine: Machine, check: Check, tmp_path: Path, layout: list[str]
) -> None:
    machine.needs_ranks(2)
    settings = LARGE if machine.is_cuda else []
    found = profiled(machine, tmp_path / "run", *layout, "layout.micro_batch=4", *settings)
    if not machine.is_cuda:
        check.note("operations", float(found.operations))
        return
    check.note("NCCL, ms a step", found.nccl_us / 1000 / STEPS)
    check.note("of it beside matmuls, ms", found.beside_us / 1000 / STEPS)
    for name, count in sorted(found.waits.items()):
        check.note(f"{name}, per step", count / STEPS)
    assert found.nccl_us > 0, "no NCCL kernel in the profile"
    assert found.beside_us > 0, "no matmul runs while NCCL does"
