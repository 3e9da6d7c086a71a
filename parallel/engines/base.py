"""The interface between engines and the training loop: steps, and state by global name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import torch
from torch import Tensor

from models.initialise import Part
from models.training.router_state import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Micro-batches of one data rank: tokens [B, T + 1]; labels are the tokens shifted by one.

    Attributes:
        starts: of each micro-batch [B, T], in host memory: for each token the position of the
            first of its document, which attention then stays within; None: it does not.
    """

    micro_batches: list[Tensor]
    starts: list[Tensor] | None = None

    def with_starts(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Each micro-batch's tokens and where its documents begin."""
        yield from zip(self.micro_batches, self.starts or repeat(None), strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The result of a step, equal on every rank."""

    loss: float  # mean over the global batch's tokens, before the update, in nats
    grad_norm: float  # of the full gradient, before clipping
    skipped: bool  # fp16: the gradient overflowed, so the weights were not updated
    loss_scale: float
    routing: Routing | None = None  # of the layers with experts; None: there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterPart:
    """One rank's shard of one parameter, under the parameter's global name."""

    name: str
    shape: torch.Size  # of this rank's shard, with the vocabulary's padding
    part: Part
    whole: torch.Size  # the parameter's shape, without padding
    padded: bool = False  # its rows are the vocabulary's
    expert: bool = False  # it is of a routed expert, which other ranks hold copies of


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerTensors:
    """A parameter's float32 master copy and Adam's moments, each in the shard's shape.

    Muon's momentum is the first moment, and it has no second one.
    """

    master: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor | None = None


class WeightTaker(Protocol):
    """Loads the weights of a checkpoint and nothing else."""

    def parameters(self) -> list[ParameterPart]:
        """This rank's shards, in the order that `import_weights` expects."""

    def import_weights(self, weights: Iterable[tuple[ParameterPart, Tensor]]) -> None:
        """Loads float32 values for every parameter in `parameters()`."""
        ...


class Engine(Protocol):
    """A rank's training engine. Steps, evaluations and exports are collective."""

    notices: list[str]  # messages to the user about how this engine was built

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Updates once on the global batch; `batch` is this data rank's part of it."""

    def evaluate(self, batch: Batch) -> float:
        """Mean loss over the batches of all data ranks, equal on every rank."""
        ...

    def parameters(self) -> list[ParameterPart]:
        """This rank's shards; the last stage's copy of the tied embedding keeps its global name."""
        ...

    def own_state(self) -> list[OptimizerTensors | None]:
        """The engine's own tensors for each of `parameters()`, if they are in host memory.

        A load fills them in place and then passes them to `import_state`.
        """
        ...

    def export_state(self) -> Iterator[tuple[ParameterPart, OptimizerTensors]]:
        """The parameters that this rank saves; with ZeRO, gathered from the data ranks.

        Collective: every rank must exhaust the iterator.
        """
        ...

    def import_state(
        self, state: Iterable[tuple[ParameterPart, OptimizerTensors]], adam_step: int
    ) -> None:
        """Loads the values of every parameter in `parameters()`."""
        ...

    def adam_step(self) -> int:
        """The number of updates by Adam so far."""

    def router_state(self) -> dict[str, list[list[float]]]:
        """Biases and loads of experts, which later steps depend on; empty without experts."""

    def load_router_state(self, state: dict[str, list[list[float]]]) -> None:
        """Loads the result of `router_state`; does nothing without experts."""

    def scaler_state(self) -> dict[str, float]:
        """Loss scale of fp16 and its trackers, by Megatron's names; empty in other precisions."""

    def load_scaler_state(self, state: dict[str, float]) -> None:
        """Loads the result of `scaler_state`; an empty one changes nothing."""
