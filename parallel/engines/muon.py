"""Muon for the matrices of the layers and AdamW for the rest, inside either engine's optimizers.

An engine's optimizer hands its inner one tensors to update: whole shards, or with ZeRO flat slices
of them. AdamW takes them as they come. Muon needs whole matrices, so it is told which slice of
which parameter is where, and layers are dealt out over the data ranks. In each round

- every data rank adds its slices of a layer's momenta up on the rank that the layer is dealt to;
- that data rank's tensor ranks gather each matrix, one of them makes it orthogonal, all get it;
- and the layer's owner broadcasts each shard of the result, of which every rank takes its slice.

All ranks of a stage come here with the same parameters in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from megatron.core import parallel_state
from torch import Tensor
from torch.optim.adamw import adamw

from configs.schema import DeviceName, OptimizerConfig, Precision
from models.shape import ModelShape
from parallel.engines.base import ParameterPart
from parallel.engines.named_parameters import NamedParameter
from parallel.engines.newton_schulz import Views, is_muons, update_of, views_of
from parallel.engines.optimizer_state import OptimizerState, OwnSlice
from parallel.runtime.process_groups import copies_group


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A parameter of Muon's: this rank's shard, and the slice of it that it keeps, if any."""

    at: ParameterPart
    views: Views
    own: OwnSlice | None

    @property
    def layer(self) -> str:
        """The layer's name, such as decoder.layers.7."""
        return ".".join(self.at.name.split(".")[:3])


class Muon(torch.optim.Optimizer):
    """Needs `tell` before its first step.

    Args:
        groups: with `params`, `lr`, and `muon`: whether they are matrices of the layers. Taken as
            they are, since torch refuses the slices of Megatron-core's optimizer, which are views.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        settings: OptimizerConfig,
        precision: Precision,
        device: DeviceName,
    ) -> None:
        super().__init__([{"params": []}], {})
        self.param_groups = groups
        self.settings = settings
        half = device is DeviceName.cuda and precision is not Precision.float32
        self.dtype = torch.bfloat16 if half else torch.float32
        self._matrices: list[Matrix] = []
        self._decaying: list[OwnSlice] = []

    def tell(
        self, parameters: list[NamedParameter], state: OptimizerState, shape: ModelShape
    ) -> None:
        """Says where each parameter is, in the order that all ranks of the stage share."""
        for named in parameters:
            own = state.slice_of(named)
            if is_muons(named.at):
                self._matrices.append(Matrix(named.at, views_of(named.at, shape), own))
            elif own is not None and len(named.at.shape) > 1:
                self._decaying.append(own)
        self._sliced = state.sliced
        self._device = parameters[0].tensor.device
        self._data = copies_group()
        self._tensor = parallel_state.get_tensor_model_parallel_group()

    def has_second_moment(self, at: ParameterPart) -> bool:
        """Whether it keeps Adam's second moment of a parameter."""
        return not is_muons(at)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates every tensor of the groups. Collective over the stage's ranks."""
        for group in self.param_groups:
            for main in group["params"]:
                state = self.state[main]
                if "step" not in state:
                    state["step"] = torch.zeros((), device=main.device)
                for moment in ("exp_avg",) if group.get("muon") else ("exp_avg", "exp_avg_sq"):
                    if moment not in state:
                        state[moment] = torch.zeros_like(main)
            if group.get("muon"):
                self._update_matrices(group)
            else:
                self._update_others(group)

    def _update_others(self, group: dict[str, Any]) -> None:
        mains = set(group["params"])
        for own in self._decaying:
            # Not by group: DeepSpeed takes norms group by group over all stages, so that a group of
            # embeddings, which inner stages lack, would leave some waiting.
            if own.main in mains:
                _of(own.main, own).mul_(1 - group["lr"] * self.settings.weight_decay)
        trained = [main for main in group["params"] if main.grad is not None]
        states = [self.state[main] for main in trained]
        adamw(
            trained,
            [main.grad for main in trained],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=self.settings.beta1,
            beta2=self.settings.beta2,
            lr=group["lr"],
            weight_decay=0.0,
            eps=self.settings.epsilon,
            maximize=False,
        )

    def _update_matrices(self, group: dict[str, Any]) -> None:
        mains = set(group["params"])
        if mains:
            torch._foreach_add_([self.state[main]["step"] for main in mains], 1)
        # ZeRO 3 comes with some of the parameters at a time.
        now = [each for each in self._matrices if each.own is None or each.own.main in mains]
        layers = [list(matrices) for _, matrices in groupby(now, key=lambda each: each.layer)]
        for first in range(0, len(layers), self._data.size()):
            self._update_layers(layers[first : first + self._data.size()], group["lr"])

    def _update_layers(self, layers: list[list[Matrix]], rate: float) -> None:
        """Updates as many layers as there are data ranks, each on its own, or fewer."""
        dealt = [(owner, matrix) for owner, layer in enumerate(layers) for matrix in layer]
        momenta = {
            matrix: momentum
            for owner, matrix in dealt
            if (momentum := self._momentum(matrix, owner)) is not None
        }
        # Only now, so that no data rank waits for another's matmuls.
        updates = {
            matrix: self._orthogonal(matrix, momenta.pop(matrix), place)
            for place, matrix in enumerate(list(momenta))
        }
        for owner, matrix in dealt:
            update = updates.pop(matrix, None)
            if update is None:
                update = torch.empty(matrix.at.shape, device=self._device)
            if self._data.size() > 1:
                torch.distributed.broadcast(update, group=self._data, group_src=owner)
            if matrix.own is not None:
                weight = _of(matrix.own.main, matrix.own)
                weight.mul_(1 - rate * self.settings.weight_decay)
                weight.sub_(update.view(-1)[matrix.own.place], alpha=rate)

    def _momentum(self, matrix: Matrix, owner: int) -> Tensor | None:
        """This rank's shard on the data rank `owner`, with the gradient that Nesterov's method
        looks ahead by; None on others.
        """
        here, own = owner == self._data.rank(), matrix.own
        shard = None
        if self._sliced:
            shard = torch.zeros(matrix.at.shape, device=self._device)
        if own is not None:
            assert own.main.grad is not None
            gradient = _of(own.main.grad, own)
            momentum = _of(self.state[own.main]["exp_avg"], own)
            momentum.lerp_(gradient, 1 - self.settings.momentum)
            if here or self._sliced:
                ahead = gradient.lerp(momentum, self.settings.momentum)
                if shard is None:
                    return ahead.view(matrix.at.shape)
                shard.view(-1)[own.place] = ahead
        if shard is not None and self._data.size() > 1:
            # Slices do not overlap, so summing them with zeros elsewhere is exact.
            torch.distributed.reduce(shard, group=self._data, group_dst=owner)
        return shard if here else None

    def _orthogonal(self, matrix: Matrix, momentum: Tensor, place: int) -> Tensor:
        """This rank's shard of the update; each matrix of a layer is one tensor rank's work."""
        part, ranks = matrix.at.part, self._tensor.size()
        if part.dim is None:
            return self._whole(matrix, momentum)
        rows, columns = momentum.shape
        whole = torch.empty(ranks * rows, columns, device=momentum.device)
        torch.distributed.all_gather_into_tensor(whole, momentum, group=self._tensor)
        if part.dim == 1:
            whole = torch.cat(whole.chunk(ranks), dim=1)
        worker = place % ranks
        if self._tensor.rank() == worker:
            whole = self._whole(matrix, whole)
        torch.distributed.broadcast(whole, group=self._tensor, group_src=worker)
        return whole.chunk(ranks, dim=part.dim)[part.index].contiguous()

    def _whole(self, matrix: Matrix, momentum: Tensor) -> Tensor:
        settings = self.settings
        return update_of(
            momentum,
            matrix.views,
            steps=settings.newton_schulz_steps,
            scale=settings.muon_scale,
            dtype=self.dtype,
        )


def _of(tensor: Tensor, own: OwnSlice) -> Tensor:
    """The elements of a slice, flat; a view."""
    return tensor.detach().view(-1)[own.at]
