"""Engine code shared by both engines: exports and loads parameters and optimizer state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from models.training.router_state import RouterState, Routing
from parallel.engines.base import OptimizerTensors, ParameterPart
from parallel.engines.named_parameters import NamedParameter
from parallel.engines.optimizer_state import OptimizerState, read_adam_step, take


class EngineState:
    """The part of the Engine protocol that checkpoints use.

    Args:
        adam: the optimizer that updates the master weights.
        state: where it keeps masters and moments.
        routers: of the layers with experts, if there are any.
    """

    def __init__(
        self,
        parameters: list[NamedParameter],
        adam: Any,
        state: OptimizerState,
        routers: RouterState | None = None,
    ) -> None:
        self._parameters = parameters
        self.adam = adam
        self._state = state
        self._routers = routers

    def _set(self, named: NamedParameter, value: Tensor) -> None:
        take(named.tensor, value)

    def parameters(self) -> list[ParameterPart]:
        """This rank's shard of each parameter, including the copy of the tied embedding."""
        return [named.at for named in self._parameters]

    def own_state(self) -> list[OptimizerTensors | None]:
        """Masters and moments that a load may fill in place; None for a parameter without."""
        return [self._state.own(named) for named in self._parameters]

    def named_tensors(self) -> list[NamedParameter]:
        """The parameters with their tensors, in the order of `parameters`."""
        return self._parameters

    def export_state(self) -> Iterator[tuple[ParameterPart, OptimizerTensors]]:
        """Exports all but the copy of the tied embedding. Collective over the data ranks."""
        saved = [named for named in self._parameters if not named.tied_copy]
        for named, tensors in self._state.export(saved):
            yield named.at, tensors

    def import_state(
        self, state: Iterable[tuple[ParameterPart, OptimizerTensors]], adam_step: int
    ) -> None:
        """Loads masters and moments in the order of `parameters`; weights become the masters."""
        for named, (at, tensors) in zip(self._parameters, state, strict=True):
            assert named.at == at
            self._state.load(named, tensors, adam_step)
            self._set(named, tensors.master)

    def end_routing(self) -> Routing | None:
        """What the routers did in this step; updates their state. Collective."""
        return None if self._routers is None else self._routers.end_step()

    def router_state(self) -> dict[str, list[list[float]]]:
        """Biases and loads of experts; empty without experts."""
        return {} if self._routers is None else self._routers.state()

    def load_router_state(self, state: dict[str, list[list[float]]]) -> None:
        """Loads the result of `router_state`; does nothing without experts."""
        if self._routers is not None:
            self._routers.load_state(state)

    def adam_step(self) -> int:
        """The number of updates by Adam so far; 0 before the first."""
        return read_adam_step(self.adam)
