"""The callback interface, and the record it receives after each step."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from models.training.router_state import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One finished step, with the field names of metrics.jsonl."""

    step: int
    loss: float  # nats per token, mean over the global batch, before the update
    grad_norm: float  # of the full gradient, before clipping; infinite if it overflowed
    learning_rate: float
    samples: int  # consumed so far, including this step
    tokens: int  # consumed so far, including this step
    step_time_s: float
    tokens_per_s: float
    tflops: float  # model FLOPs, summed over ranks
    mfu: float | None  # relative to the devices' peak; None if the peak is unknown
    memory_gib: float  # peak on rank 0
    loss_scale: float
    skipped: bool
    routing: Routing | None = None  # what the routers of layers with experts did

    def values(self) -> dict[str, Any]:
        """The fields by name; of the routers means over the layers, if there are any."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        routing: Routing | None = found.pop("routing")
        return found if routing is None else found | routing.means()


class Callback:
    """Does nothing; subclasses override the hooks they need. Every rank calls all its hooks."""

    def before_step(self, step: int) -> None:
        """Called before the step's first forward pass."""

    def after_step(self, record: StepRecord) -> None:
        """Called when the step is finished, or was skipped with a loss of NaN."""

    def after_evaluation(self, step: int, eval_loss: float) -> None:
        """Called with the loss on held-out text, in nats per token."""

    def save_now(self, record: StepRecord) -> None:
        """Called when a save is requested, or training stops after this step."""

    def on_rollback(self, step: int) -> None:
        """Called after a rollback; training resumes at `step + 1`."""

    def at_end(self) -> None:
        """Called once, after the last step of this start."""
