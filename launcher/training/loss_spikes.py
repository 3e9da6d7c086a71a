"""Detects losses that are not finite or have spiked, and skips the batches responsible.

Chowdhery et al. 2022 (PaLM, section 5.1) restart from a checkpoint before the spike and skip the
batches around it; the spikes did not recur. As in Megatron-LM a skipped step still counts as a
step: its samples are consumed, and the remaining data, the batch ramp and the learning rate are
unaffected.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.errors import RunError
from configs.schema import TrainConfig
from launcher.run.jsonl import append_line, read_lines
from parallel.engines.base import StepResult

LEAST = 10  # losses needed before a spike can be detected


class BadLossError(RunError):
    """The step must not count. Raised on every rank, as all ranks share a step's result."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"step {step}: {why}")
        self.step = step
        self.why = why


class LossGuard:
    """Compares each step's loss with those of the steps before it."""

    def __init__(self, train: TrainConfig, losses: list[float]) -> None:
        """`losses`: of the previous steps, newest last."""
        self._factor = train.spike_factor
        self._least = min(LEAST, train.spike_window)
        self._usual = deque(losses, maxlen=train.spike_window)

    def judge(self, step: int, result: StepResult) -> None:
        """Raises BadLossError."""
        if result.skipped:  # fp16 found its loss scale too large, which is harmless
            return
        if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
            raise BadLossError(step, f"loss {result.loss}, gradient norm {result.grad_norm}")
        if self._factor is not None and len(self._usual) >= self._least:
            usual = statistics.median(self._usual)
            if result.loss > self._factor * usual:
                raise BadLossError(
                    step,
                    f"loss {result.loss:.4f} is {result.loss / usual:.2f} times the usual "
                    f"{usual:.4f} (train.spike_factor={self._factor:g})",
                )
        self._usual.append(result.loss)


def losses_before(metrics: Path, step: int) -> list[float]:
    """The losses up to `step`, from metrics.jsonl."""
    return [
        row["loss"]
        for row in read_lines(metrics)
        if row.get("loss") is not None and row["step"] <= step and not row["skipped"]
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """A line of skips.jsonl: a skipped step."""

    step: int
    because_of: int  # the step whose loss was bad
    why: str
    back_to: int  # the step of the checkpoint that training rolled back to


class Skips:
    """The steps that a run skips, across all its starts. Rank 0 writes them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[int, Skip]:
        """All skipped steps of the run, by step."""
        return {line["step"]: Skip(**line) for line in read_lines(self._path)}

    def add(self, error: BadLossError, train: TrainConfig, back_to: int) -> list[int]:
        """The steps to skip because of `error`.

        Raises RunError if they would exceed train.max_skips, or all are already skipped.
        """
        known = self.read()
        first = max(back_to + 1, error.step - train.skip_batches + 1)
        new = [step for step in range(first, error.step + 1) if step not in known]
        if len(known) + len(new) > train.max_skips:
            raise RunError(
                f"{error}; {len(known)} steps were skipped already (train.max_skips="
                f"{train.max_skips}); nearest: a lower optimizer.learning_rate, from an earlier "
                "checkpoint"
            )
        for step in new:
            skip = Skip(step=step, because_of=error.step, why=error.why, back_to=back_to)
            append_line(self._path, asdict(skip))
        return new
