"""A parameter's master copy and Adam's moments, wherever an optimizer keeps them.

Some optimizers keep them unsharded beside the parameter, those with ZeRO as slices of a flat buffer
on the data rank that owns them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from parallel.engines.base import OptimizerTensors
from parallel.engines.named_parameters import NamedParameter

_MOMENTS = ("exp_avg", "exp_avg_sq")


class OptimizerState(Protocol):
    """Exports and loads masters and moments, wherever an optimizer keeps them.

    Attributes:
        sliced: data ranks hold different slices of a parameter.
        data_group: the ranks that do, or that all hold the same.
    """

    sliced: bool
    data_group: Any

    def slice_of(self, named: NamedParameter) -> OwnSlice | None:
        """Where this rank keeps which elements of a parameter; None: it keeps none."""
        ...

    def export(
        self, parameters: list[NamedParameter]
    ) -> Iterator[tuple[NamedParameter, OptimizerTensors]]:
        """Yields each parameter on one data rank. Collective over the data ranks."""
        ...

    def own(self, named: NamedParameter) -> OptimizerTensors | None:
        """The optimizer's tensors of a parameter, if they are unsharded and in host memory."""
        ...

    def load(self, named: NamedParameter, tensors: OptimizerTensors, step: int) -> None:
        """Loads a parameter's master and moments; the engine sets the parameter itself."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class OwnSlice:
    """The elements `place` of a parameter, which this rank keeps as elements `at` of `main`."""

    main: Tensor  # float32; what the optimizer updates
    at: slice
    place: slice


class WholeState:
    """Every data rank holds everything; saving is distributed over them.

    Args:
        masters: the float32 copy that Adam updates, for each parameter that has one.
    """

    sliced = False

    def __init__(self, adam: Any, masters: Mapping[Tensor, Tensor], data_group: Any) -> None:
        self.adam = adam
        self.masters = masters
        self.data_group = data_group

    def slice_of(self, named: NamedParameter) -> OwnSlice:
        """All of it."""
        return OwnSlice(self._master(named), slice(None), slice(None))

    def _master(self, named: NamedParameter) -> Tensor:
        return self.masters.get(named.tensor, named.tensor)

    def export(
        self, parameters: list[NamedParameter]
    ) -> Iterator[tuple[NamedParameter, OptimizerTensors]]:
        """Yields the parameters assigned to this data rank, without communication."""
        for number, named in enumerate(parameters):
            if number % self.data_group.size() != self.data_group.rank():
                continue
            master = self._master(named)
            state = self.adam.state[master]
            moments = {
                key: state[key] if key in state else torch.zeros_like(master)
                for key in _moments(self.adam, named)
            }
            yield named, OptimizerTensors(master=master.detach(), **moments)

    def own(self, named: NamedParameter) -> OptimizerTensors | None:
        """The optimizer's tensors; None on CUDA, or if their shape is not the shard's."""
        master = self._master(named)
        if master.is_cuda or master.shape != named.at.shape:
            return None
        moments = _moments_of(self.adam, named, master)
        return OptimizerTensors(master=master.detach(), **moments)

    def load(self, named: NamedParameter, tensors: OptimizerTensors, step: int) -> None:
        """Copies master and moments into the optimizer's tensors and sets its step."""
        master = self._master(named)
        take(master, tensors.master)
        for key, moment in _moments_of(self.adam, named, master).items():
            take(moment, _moment(tensors, key))
        _set_step(self.adam, master, step)


class SlicedState:
    """Each data rank holds slices; a parameter is assembled on the rank that saves it."""

    sliced = True

    def __init__(self, adam: Any, slices: Mapping[Tensor, OwnSlice], data_group: Any) -> None:
        self.adam = adam
        self.slices = slices
        self.data_group = data_group

    def slice_of(self, named: NamedParameter) -> OwnSlice | None:
        """This rank's slice."""
        return self.slices.get(named.tensor)

    def export(
        self, parameters: list[NamedParameter]
    ) -> Iterator[tuple[NamedParameter, OptimizerTensors]]:
        """Reduces each parameter to one data rank in turn, which yields it. Collective."""
        ranks = torch.distributed.get_process_group_ranks(self.data_group)
        for number, named in enumerate(parameters):
            owner = ranks[number % len(ranks)]
            keys = ("master", *_moments(self.adam, named))
            gathered = {key: self._gather(named, key, owner) for key in keys}
            if owner == torch.distributed.get_rank():
                yield named, OptimizerTensors(**gathered)

    def _gather(self, named: NamedParameter, key: str, owner: int) -> Tensor:
        # Slices do not overlap, so summing them with zeros elsewhere is exact.
        device = named.tensor.device
        whole = torch.zeros(named.at.shape.numel(), dtype=torch.float32, device=device)
        own = self.slices.get(named.tensor)
        if own is not None:
            kept = own.main if key == "master" else self.adam.state[own.main].get(key)
            if kept is not None:
                whole[own.place] = kept.detach().view(-1)[own.at].to(device)
        torch.distributed.reduce(whole, owner, group=self.data_group)
        return whole.view(named.at.shape)

    def own(self, named: NamedParameter) -> None:
        """Nothing whole."""

    @torch.no_grad()
    def load(self, named: NamedParameter, tensors: OptimizerTensors, step: int) -> None:
        """Copies this rank's slice and sets Adam's step; does nothing without a slice."""
        own = self.slices.get(named.tensor)
        if own is None:
            return
        own.main.view(-1)[own.at] = tensors.master.view(-1)[own.place].to(own.main.device)
        for key, moment in _moments_of(self.adam, named, own.main).items():
            whole = _moment(tensors, key)
            moment.view(-1)[own.at] = whole.view(-1)[own.place].to(moment.device)
        _set_step(self.adam, own.main, step)


class ExpertsApart:
    """Routed experts in an optimizer of their own, over fewer ranks."""

    def __init__(self, others: OptimizerState, experts: OptimizerState) -> None:
        self._others, self._experts = others, experts
        self.sliced, self.data_group = others.sliced, others.data_group

    def _of(self, named: NamedParameter) -> OptimizerState:
        return self._experts if named.at.expert else self._others

    def slice_of(self, named: NamedParameter) -> OwnSlice | None:
        """This rank's slice."""
        return self._of(named).slice_of(named)

    def export(
        self, parameters: list[NamedParameter]
    ) -> Iterator[tuple[NamedParameter, OptimizerTensors]]:
        """All but the experts, then these. Collective."""
        yield from self._others.export([each for each in parameters if not each.at.expert])
        yield from self._experts.export([each for each in parameters if each.at.expert])

    def own(self, named: NamedParameter) -> OptimizerTensors | None:
        """The optimizer's tensors of a parameter, if they are unsharded and in host memory."""
        return self._of(named).own(named)

    def load(self, named: NamedParameter, tensors: OptimizerTensors, step: int) -> None:
        """Loads a parameter's master and moments."""
        self._of(named).load(named, tensors, step)


@torch.no_grad()
def take(own: Tensor, value: Tensor) -> None:
    """Copies the value, unless it was loaded in place."""
    if own.data_ptr() != value.data_ptr():
        own.copy_(value)


def read_adam_step(optimizer: Any) -> int:
    """The number of updates so far: torch's and DeepSpeed's Adam count per parameter, else per
    group.
    """
    for group in optimizer.param_groups:
        if "step" in group:
            return int(group["step"])
    # Not from the groups' parameters: DeepSpeed's ZeRO 3 leaves them empty between steps.
    for state in optimizer.state.values():
        if "step" in state:
            return int(state["step"])
    return 0


def _moments(adam: Any, named: NamedParameter) -> tuple[str, ...]:
    """The moments that an optimizer keeps of a parameter; all of them, unless it says otherwise."""
    has_second = getattr(adam, "has_second_moment", None)
    return _MOMENTS if has_second is None or has_second(named.at) else _MOMENTS[:1]


def _moments_of(adam: Any, named: NamedParameter, main: Tensor) -> dict[str, Tensor]:
    """Adam's moments in `main`, created if Adam has not taken its first step."""
    state, keys = adam.state[main], _moments(adam, named)
    for key in keys:
        if key not in state:
            state[key] = torch.zeros_like(main)
    return {key: state[key] for key in keys}


def _moment(tensors: OptimizerTensors, key: str) -> Tensor:
    """A loaded moment; zeros for the second one of a run that Muon has trained."""
    moment: Tensor | None = getattr(tensors, key)
    return torch.zeros_like(tensors.master) if moment is None else moment


def _set_step(adam: Any, main: Tensor, step: int) -> None:
    """Sets the step where Adam itself keeps it."""
    made_by = type(adam).__module__
    if made_by.startswith(("torch.", "parallel.")):  # and our Muon, whose kernels are all fused
        # Fused kernels count on the device.
        fused = adam.param_groups[0].get("fused") or made_by.startswith("parallel.")
        device = main.device if fused else "cpu"
        adam.state[main]["step"] = torch.tensor(float(step), device=device)
    elif made_by.startswith("deepspeed."):
        adam.state[main]["step"] = step
    else:  # Apex and Transformer Engine count per group
        for group in adam.param_groups:
            group["step"] = step
