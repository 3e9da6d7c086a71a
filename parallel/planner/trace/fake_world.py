"""A world of any size in which this process is one rank and the others do not exist.

Tensors have shapes but no memory (FakeTensorMode), the process groups of torch's `fake` backend
have ranks but no connections, and collectives finish as soon as they start. An engine is built and
runs in it as in any world; all differences are in this file and in `fake_deepspeed`:

- reading a tensor's value: norms, losses and scales return 1, overflow flags return no;
- objects gathered from other ranks are this rank's own;
- weights are not initialised, and random states are not saved, as nothing is random;
- what a compiler fuses on CUDA allocates one tensor, not one for every step of a formula.

Leaving it restores everything, so that a real world may follow in the same process. The CPU bridge
stays installed: a process that has been in a fake world can only use the CPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import FakeWork
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed import ProcessGroup
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from configs.schema import DeviceName
from parallel.planner.trace.collective_counter import METHODS
from parallel.runtime import cpu_bridge
from parallel.runtime.device import Device

_VALUE_OF = torch.ops.aten._local_scalar_dense.default
_UNSCALE = torch.ops.aten._amp_foreach_non_finite_check_and_unscale_.default


def fake_device(name: DeviceName) -> Device:
    """The device passed to an engine: its settings are those of `name`."""
    return Device(name, torch.device("cpu"), "fake")


@contextmanager
def fake_world(world_size: int, rank: int, device: DeviceName) -> Iterator[None]:
    """Makes this process rank `rank` of `world_size`; there must be no default process group.

    Args:
        device: the device whose operations the fake ones imitate.
    """
    assert not torch.distributed.is_initialized(), "a fake world within a real one"
    cpu_bridge.install()
    torch.distributed.init_process_group(
        "fake", store=FakeStore(), rank=rank, world_size=world_size
    )
    try:
        with ExitStack() as undo:
            _put_in_place(undo)
            if device is DeviceName.cuda:
                _be_like_cuda(undo)
            undo.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            undo.enter_context(_Answers())
            yield
    finally:
        torch.distributed.destroy_process_group()


class _Answers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Supplies values that a fake tensor does not have."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._flag: Tensor | None = None
        self._in_place: dict[Any, bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _VALUE_OF:
            (tensor,) = args
            if tensor.constant is not None:  # known from Python, such as the kind of a mask
                return tensor.constant.item()
            # No overflow. Otherwise 1: Adam, for one, divides by 1 - beta^step.
            if tensor is self._flag or not tensor.dtype.is_floating_point:
                return 0
            return 1.0
        if func is _UNSCALE:
            self._flag = args[1]
            return None
        if self._changes_numbers_only(func):
            changed = args[0]
            if isinstance(changed, FakeTensor) and changed.constant is None:
                return changed
        return func(*args, **(kwargs or {}))

    def _changes_numbers_only(self, func: Any) -> bool:
        """Whether an operation only changes values in its first argument."""
        known = self._in_place.get(func)
        if known is None:
            name = func._schema.name
            known = (
                name.startswith("aten::")
                and name.endswith("_")
                and len(func._schema.returns) == 1
                and torch.Tag.inplace_view not in func.tags
            )
            self._in_place[func] = known
        return known


def _put_in_place(undo: ExitStack) -> None:
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    from parallel.engines import named_parameters

    for name in METHODS:
        if name in vars(ProcessGroup):
            replace(undo, ProcessGroup, name, _over_at_once)
    replace(undo, torch.distributed, "all_gather_object", _gather_own)
    replace(undo, nn.Module, "_apply", _apply)
    replace(undo, CudaRNGStatesTracker, "fork", _fork)
    replace(undo, named_parameters, "initial_weight", _no_values)


def _be_like_cuda(undo: ExitStack) -> None:
    from megatron.core.fusions import fused_bias_gelu
    from megatron.core.optimizer import clip_grads

    replace(undo, fused_bias_gelu, "bias_gelu", lambda _bias, x: torch.empty_like(x))
    replace(undo, fused_bias_gelu, "bias_gelu_back", lambda g, _bias, _x: torch.empty_like(g))
    # Transformer Engine's and Apex's Adam and norm are one kernel each; the CPU bridge's norm
    # copies gradients to double, and torch's plain Adam allocates tensors of a parameter's size.
    adam = importlib.import_module("torch.optim.adam")  # torch.optim hides the module
    replace(undo, adam, "_single_tensor_adam", lambda *_args, **_kwargs: None)
    replace(undo, clip_grads, "l2_norm_impl", lambda *_args: (torch.ones(1), None))


def replace(undo: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Sets an attribute until `undo` is closed."""
    # As stored in the class: getattr's result for a C++ method would not bind again.
    undo.callback(setattr, owner, name, vars(owner)[name])
    setattr(owner, name, value)


def _over_at_once(_group: ProcessGroup, *_args: Any, **_kwargs: Any) -> Any:
    return FakeWork()


def _gather_own(objects: list[Any], own: Any, group: Any = None) -> None:
    objects[:] = [own] * len(objects)


def _apply(module: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
    """Like torch's, which would replace fake parameters with new ones."""
    with torch.no_grad():
        for each in module.modules():
            for parameter in each._parameters.values():
                if parameter is not None and (new := change(parameter)) is not parameter:
                    parameter.data = new
                    if isinstance(parameter, FakeTensor):  # its device is not its data's
                        parameter.fake_device = new.device
            for name, buffer in each._buffers.items():
                if buffer is not None:
                    each._buffers[name] = change(buffer)
    return module


@contextmanager
def _fork(_tracker: Any, _name: str = "") -> Iterator[None]:
    yield


def _no_values(_name: str, shape: torch.Size, *_rest: Any) -> Tensor:
    return torch.empty(shape)
