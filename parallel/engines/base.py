"""What every engine is to the training loop: it runs steps and shows its state by global name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.initialise import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Micro-batches of one data rank: tokens [B, T + 1], the labels being the tokens one later."""

    micro_batches: list[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step came to, equal on every rank."""

    loss: float  # mean over the global batch's tokens, before the update, in nats
    grad_norm: float  # of the whole gradient, before clipping
    skipped: bool  # fp16: the gradient overflowed, so the weights were left as they were
    loss_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterPart:
    """One rank's part of one parameter, under the parameter's global name."""

    name: str
    shape: torch.Size  # of this rank's part
    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerTensors:
    """A parameter's float32 master copy and Adam's moments, each of the part's shape."""

    master: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


class WeightTaker(Protocol):
    """What takes a checkpoint's weights and nothing else of it."""

    def parameters(self) -> list[ParameterPart]:
        """What this rank holds, in the order that `import_weights` takes."""

    def import_weights(self, weights: Iterable[tuple[ParameterPart, Tensor]]) -> None:
        """Takes float32 values of every parameter in `parameters()`."""
        ...


class Engine(Protocol):
    """What a rank trains with. Steps, evaluations and exports are collective."""

    notices: list[str]  # what the user should know of how this engine came out

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Trains on the global batch, of which `batch` is this data rank's, and updates once."""

    def evaluate(self, batch: Batch) -> float:
        """Mean loss over the batches of all data ranks, equal on every rank."""
        ...

    def parameters(self) -> list[ParameterPart]:
        """What this rank holds; the last stage's copy of the tied embedding under its one name."""
        ...

    def own_state(self) -> list[OptimizerTensors | None]:
        """The engine's own tensors of `parameters()`, one by one, where they are in host memory.

        A load fills them in place; `import_state` is then given them.
        """
        ...

    def export_state(self) -> Iterator[tuple[ParameterPart, OptimizerTensors]]:
        """The parameters that this rank should save; with ZeRO, gathered from the data ranks.

        Collective: every rank must run the iterator to its end.
        """
        ...

    def import_state(
        self, state: Iterable[tuple[ParameterPart, OptimizerTensors]], adam_step: int
    ) -> None:
        """Takes the values of every parameter in `parameters()`."""
        ...

    def adam_step(self) -> int:
        """Updates that Adam has made so far."""

    def scaler_state(self) -> dict[str, float]:
        """Loss scale of fp16 and its trackers, by Megatron's names; empty in other precisions."""

    def load_scaler_state(self, state: dict[str, float]) -> None:
        """Takes what `scaler_state` gave; an empty one changes nothing."""
