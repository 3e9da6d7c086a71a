"""Megatron's three optimizers seen alike: a parameter's master copy and Adam's moments.

FP32Optimizer keeps them beside the parameter, Float16OptimizerWithFloat16Params beside a float32
copy, DistributedOptimizer (ZeRO-1) as slices of a flat buffer, each on the data rank that owns it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.optimizer.optimizer import Float16OptimizerWithFloat16Params
from torch import Tensor

from parallel.engine import OptimizerTensors
from parallel.megatron_model import NamedParameter

_MOMENTS = ("exp_avg", "exp_avg_sq")


class OptimizerState(Protocol):
    def export(
        self, parameters: list[NamedParameter]
    ) -> Iterator[tuple[NamedParameter, OptimizerTensors]]: ...

    def load(self, named: NamedParameter, tensors: OptimizerTensors, step: int) -> None: ...


def optimizer_state(optimizer: Any, data_group: Any) -> OptimizerState:
    if isinstance(optimizer, DistributedOptimizer):
        return _Sharded(optimizer, data_group)
    return _Whole(optimizer, data_group)


def read_adam_step(optimizer: Any) -> int:
    """Updates made so far: kept per parameter by torch's Adam, per group by fused ones."""
    for group in optimizer.param_groups:
        if "step" in group:
            return int(group["step"])
        for parameter in group["params"]:
            if "step" in optimizer.state[parameter]:
                return int(optimizer.state[parameter]["step"])
    return 0


class _Whole:
    """Every data rank holds everything; the saving is dealt out over them."""

    def __init__(self, optimizer: Any, data_group: Any) -> None:
        self.adam = optimizer.optimizer
        self.data_group = data_group
        self.masters: dict[Tensor, Tensor] = {}
        if isinstance(optimizer, Float16OptimizerWithFloat16Params):
            for half, full in zip(
                optimizer.float16_groups, optimizer.fp32_from_float16_groups, strict=True
            ):
                self.masters.update(zip(half, full, strict=True))

    def export(
        self, parameters: list[NamedParameter]
    ) -> Iterator[tuple[NamedParameter, OptimizerTensors]]:
        for number, named in enumerate(parameters):
            if number % self.data_group.size() != self.data_group.rank():
                continue
            master = self.masters.get(named.tensor, named.tensor)
            state = self.adam.state[master]
            moments = {
                key: state[key] if key in state else torch.zeros_like(master) for key in _MOMENTS
            }
            yield named, OptimizerTensors(master=master.detach(), **moments)

    @torch.no_grad()
    def load(self, named: NamedParameter, tensors: OptimizerTensors, step: int) -> None:
        master = self.masters.get(named.tensor, named.tensor)
        master.copy_(tensors.master)
        named.tensor.copy_(tensors.master)
        _set_moments(self.adam, master, tensors.exp_avg, tensors.exp_avg_sq, step)


class _Sharded:
    """Each data rank holds slices: a parameter is summed together on the rank that saves it."""

    def __init__(self, optimizer: DistributedOptimizer, data_group: Any) -> None:
        self.optimizer = optimizer
        self.adam = optimizer.optimizer
        self.data_group = data_group
        self.slices: dict[Tensor, slice] = {
            parameter: slice(ranges["param"].start, ranges["param"].end)
            for buffer in optimizer.gbuf_ranges
            for buckets in buffer.values()
            for bucket in buckets
            for parameter, ranges in bucket["param_map"].items()
        }

    def export(
        self, parameters: list[NamedParameter]
    ) -> Iterator[tuple[NamedParameter, OptimizerTensors]]:
        ranks = torch.distributed.get_process_group_ranks(self.data_group)
        for number, named in enumerate(parameters):
            owner = ranks[number % len(ranks)]
            gathered = {key: self._gather(named.tensor, key, owner) for key in ("param", *_MOMENTS)}
            if owner == torch.distributed.get_rank():
                yield named, OptimizerTensors(master=gathered.pop("param"), **gathered)

    def _gather(self, parameter: Tensor, key: str, owner: int) -> Tensor:
        # Slices do not overlap, so summing them with zeros elsewhere is exact.
        whole = torch.zeros(parameter.numel(), dtype=torch.float32, device=parameter.device)
        if parameter in self.slices:
            group, order = self.optimizer.model_param_group_index_map[parameter]
            main = self.adam.param_groups[group]["params"][order]
            state = self.adam.state[main]
            piece = main if key == "param" else state.get(key)
            if piece is not None:
                whole[self.slices[parameter]] = piece.detach().view(-1)
        torch.distributed.reduce(whole, owner, group=self.data_group)
        return whole.view(parameter.shape)

    @torch.no_grad()
    def load(self, named: NamedParameter, tensors: OptimizerTensors, step: int) -> None:
        parameter = named.tensor
        parameter.copy_(tensors.master)
        if parameter not in self.slices:
            return
        group, order = self.optimizer.model_param_group_index_map[parameter]
        main = self.adam.param_groups[group]["params"][order]
        own = self.slices[parameter]
        main.copy_(tensors.master.view(-1)[own])
        _set_moments(
            self.adam, main, tensors.exp_avg.view(-1)[own], tensors.exp_avg_sq.view(-1)[own], step
        )


def _set_moments(adam: Any, master: Tensor, first: Tensor, second: Tensor, step: int) -> None:
    state = adam.state[master]
    for key, value in zip(_MOMENTS, (first, second), strict=True):
        state[key] = torch.empty_like(master).copy_(value.view(master.shape))
    if isinstance(adam, torch.optim.Optimizer) and type(adam).__module__.startswith("torch."):
        state["step"] = torch.tensor(float(step))
        return
    for group in adam.param_groups:  # Apex and Transformer Engine count per group
        group["step"] = step
