"""What the kit runs on, and the sizes that suit it: GPUs, or a CPU that rehearses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from configs.override import override
from configs.schema import DeviceName
from configs.settings.network import AttentionPattern
from launcher.run.jsonl import read_lines
from models.shape import ModelShape
from parallel.hardware import compute_capability, cuda_devices
from parallel.parity import KINDS, Tolerance, Trace, compare
from tests import training
from tests.cli import ROOT, TINY, PhalanxResult, phalanx
from tests.gpu.kit import Check

MOST_RANKS = 8
REHEARSING = 4  # ranks, on a CPU

# Heads as wide as GPT-3's, so that every kernel is one that real models use, and enough text for
# the context. What a setting says last is what holds.
SMALL = [
    *TINY,
    "model.hidden=256",
    "model.context=128",
    "model.window=64",
    f"corpus.text={ROOT / 'docs'}",
]

# In float32 without TF32. Two layouts on a CPU differ, at the size of GPUs below, by 4e-8 at the
# first step, by 8e-6 in a gradient norm later and by 1.3e-4 in a tensor: the biases of keys, whose
# gradients are only rounding. CUDA adds exp, erf and tanh of 2 units in the last place (2.4e-7),
# and sums whose order changes from run to run. What is wrong differs by 1e-3 and more.
FLOAT32 = Tolerance(first_step=1e-5, steps=1e-4, tensors=1e-3)


@dataclass(frozen=True)
class Machine:
    """The device of the checks, and how many ranks it offers."""

    device: DeviceName
    ranks: int

    @classmethod
    def here(cls, *, rehearse: bool) -> Machine:
        """Up to eight GPUs of this machine, or some ranks of its CPU."""
        if rehearse:
            return cls(DeviceName.cpu, REHEARSING)
        return cls(DeviceName.cuda, min(MOST_RANKS, cuda_devices()))

    @property
    def is_cuda(self) -> bool:
        """False in a rehearsal."""
        return self.device is DeviceName.cuda

    @property
    def shape(self) -> ModelShape:
        """The model of jobs of a pool; dense, so that no job waits for a compiler."""
        if not self.is_cuda:
            return training.SHAPE
        return ModelShape(
            layers=4,
            hidden=256,
            heads=8,
            context=128,
            vocab=1000,
            attention=AttentionPattern.dense,
        )

    def like(self, shape: ModelShape) -> ModelShape:
        """A decoder of the same kind, at this device's size."""
        if not self.is_cuda:
            return shape
        return replace(
            shape,
            hidden=256,
            heads=8,
            query_groups=8 * shape.query_groups // shape.heads,
            head_width=64,
            feed_forward=704,
            context=128,
            vocab=1000,
            attention=AttentionPattern.dense,
            dense_every=None,
        )

    @property
    def settings(self) -> list[str]:
        """The model of commands."""
        return SMALL if self.is_cuda else TINY

    def phalanx(
        self, *arguments: str, run_dir: Path | None = None, device: DeviceName | None = None
    ) -> PhalanxResult:
        """A command that succeeds, on this device or another.

        With a GPU here it is a new interpreter: those that tests fork are prepared for a CPU.
        """
        given = [*arguments, f"device={device or self.device}"]
        if self.is_cuda:
            given += [override("run_dir", str(run_dir))] if run_dir else []
            result = phalanx.python("-m", "launcher", *given)
        else:
            result = phalanx(*given, run_dir=run_dir)
        assert result.status == 0, f"phalanx {' '.join(given)}: {result.errors}"
        return result

    def needs_cuda(self, why: str) -> None:
        """Skips a check in a rehearsal."""
        if not self.is_cuda:
            pytest.skip(f"rehearsal: {why}")

    def needs_capability(self, least: tuple[int, int], what: str) -> None:
        """Skips a check of what this GPU is too old for; the driver is asked, and no CUDA."""
        here = compute_capability()
        if here is not None and here < least:
            pytest.skip(f"{what} needs compute capability {least[0]}.{least[1]}, this GPU has less")

    def needs_ranks(self, count: int) -> None:
        """Skips a check that takes more ranks than there are."""
        if count > self.ranks:
            pytest.skip(f"takes {count} ranks, and there are {self.ranks}")


def trace_of(run: Path, *, first: int = 1) -> Trace:
    """Of a run's directory: its curve from a step on, and the tensors of its last checkpoint."""
    from parallel.checkpoint import manifest
    from parallel.checkpoint.tensors import read_tensors

    rows = [
        row for row in read_lines(run / "metrics.jsonl") if "loss" in row and row["step"] >= first
    ]
    return Trace(
        losses=[row["loss"] for row in rows],
        grad_norms=[row["grad_norm"] for row in rows],
        tensors={len(rows) - 1: read_tensors(manifest.find(run), tuple(KINDS))},
    )


def same(check: Check, run: Trace, expected: Trace, allowed: Tolerance = FLOAT32) -> None:
    """Notes how far two trainings are apart, and fails where that is too far."""
    assert run.losses, "there are no steps"
    found = compare(run, expected, replace(allowed, tensors=float("inf")))
    first, later = found.steps[0], found.steps[1:]
    check.within("loss, first step", first.loss, allowed.first_step)
    check.within("gradient norm, first step", first.grad_norm, allowed.first_step)
    if later:
        check.within("loss, later steps", max(it.loss for it in later), allowed.steps)
        check.within("gradient norm, later", max(it.grad_norm for it in later), allowed.steps)
    if found.largest is not None:
        what = f"{found.largest.kind} of {found.largest.name}"
        check.within(f"largest of tensors: {what}", found.largest.difference, allowed.tensors)
