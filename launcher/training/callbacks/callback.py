"""What a hook is, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One finished step, in the words of metrics.jsonl."""

    step: int
    loss: float  # nats a token, mean over the global batch, before the update
    grad_norm: float  # of the whole gradient, before clipping; infinite if it overflowed
    learning_rate: float
    samples: int  # consumed so far, this step's included
    tokens: int  # likewise
    step_time_s: float
    tokens_per_s: float
    tflops: float  # the model's, of all ranks together
    mfu: float | None  # of the devices' peak; None where the peak is not known
    memory_gib: float  # peak of rank 0
    loss_scale: float
    skipped: bool


class Callback:
    """Does nothing; a hook overrides what it needs. Every rank calls every hook it has."""

    def before_step(self, step: int) -> None:
        """Called before the step's first forward pass."""

    def after_step(self, record: StepRecord) -> None:
        """Called once the step is finished, or was left out with a loss of NaN."""

    def after_evaluation(self, step: int, eval_loss: float) -> None:
        """Called with the loss on held-out text, in nats a token."""

    def save_now(self, record: StepRecord) -> None:
        """Called when a save is asked for, or training stops after this step."""

    def on_rollback(self, step: int) -> None:
        """Called after a rollback: training resumes at `step + 1`, later steps do not count."""

    def at_end(self) -> None:
        """Called once, after the last step of this start."""
