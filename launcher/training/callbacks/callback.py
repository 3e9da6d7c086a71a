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

    def before_step(self, step: int) -> None: ...

    def after_step(self, record: StepRecord) -> None: ...

    def after_evaluation(self, step: int, eval_loss: float) -> None: ...

    def save_now(self, record: StepRecord) -> None:
        """Somebody asked for it, or training stops after this step."""

    def on_rollback(self, step: int) -> None:
        """The next step is the one after this again: what came after it does not count."""

    def at_end(self) -> None: ...
