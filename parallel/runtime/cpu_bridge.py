"""Lets Megatron-core run on CPU over gloo, by patching the few places that assume CUDA.

Installed once, before Megatron-core's modules are first used, and only when the device is CPU; on
CUDA nothing is patched. Each patch replaces one plain function with another, so it adds no cost to
the operations of a training step.

The "device" generator that Megatron's random-number tracker uses is separate from torch's CPU
generator: draws from one never affect the other.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from parallel.runtime import gpu_packages

_CPU = torch.device("cpu")
_FACTORIES = ("tensor", "zeros", "ones", "empty", "full", "arange", "rand", "randn", "as_tensor")
_CUDA_TYPE_NAMES = {
    torch.float32: "torch.cuda.FloatTensor",
    torch.float16: "torch.cuda.HalfTensor",
    torch.bfloat16: "torch.cuda.BFloat16Tensor",
}
_NORM_BLOCK = 1 << 17  # elements


@functools.cache
def install() -> None:
    """Patches torch's CUDA entry points and Megatron's random-number tracker; safe to repeat."""
    # Compiling Megatron's small fusions for the CPU takes minutes and has no benefit.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    # Otherwise DeepSpeed detects the device itself, and on some machines picks another.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # Megatron-core would take their optimizers and norms, which run on a GPU only.
    gpu_packages.hide_all()
    _patch_tensors()
    _patch_cuda_functions()
    _patch_random_tracker()
    _patch_gradient_norm()
    _patch_token_dispatcher()
    _patch_uneven_gathers()


def _patch_tensors() -> None:
    for name in _FACTORIES:
        setattr(torch, name, _on_cpu(getattr(torch, name)))
    torch.Tensor.cuda = lambda self, *_args, **_kwargs: self  # type: ignore[method-assign]
    plain_type = torch.Tensor.type

    def tensor_type(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        # Megatron's optimizers accept only tensors whose type name is a CUDA one.
        if args or kwargs:
            return plain_type(self, *args, **kwargs)
        return _CUDA_TYPE_NAMES.get(self.dtype) or plain_type(self)

    torch.Tensor.type = tensor_type  # type: ignore[method-assign,assignment]


def _on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(factory)
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            kwargs["device"] = _CPU
        return factory(*args, **kwargs)

    return make


def _patch_cuda_functions() -> None:
    cuda: Any = torch.cuda
    cuda.current_device = lambda: _CPU
    # One function each: torch's compiler keys a table on their identity.
    for name in ("synchronize", "set_device", "empty_cache"):
        setattr(cuda, name, lambda *_args, **_kwargs: None)
    for name in ("current_stream", "default_stream"):
        setattr(cuda, name, lambda *_args, **_kwargs: _InOrder())
    cuda.stream = lambda *_args, **_kwargs: nullcontext()
    cuda.Stream = type("Stream", (_InOrder,), {})
    cuda.Event = type("Event", (_InOrder,), {})


class _InOrder:
    """A stream, or an event on one: the CPU executes in order, so waits return at once."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def wait_stream(self, _other: object) -> None: ...

    def wait_event(self, _event: object) -> None: ...

    def record_event(self, event: object = None) -> object:
        return event or self

    def record(self, _stream: object = None) -> None: ...

    def wait(self, _stream: object = None) -> None: ...

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True


def _patch_random_tracker() -> None:
    generator = torch.Generator()

    def get_state(*_args: Any, **_kwargs: Any) -> torch.Tensor:
        return generator.get_state()

    def set_state(state: torch.Tensor, *_args: Any, **_kwargs: Any) -> None:
        generator.set_state(state)

    cuda: Any = torch.cuda
    cuda.get_rng_state = get_state
    cuda.set_rng_state = set_state
    cuda.manual_seed = generator.manual_seed
    from megatron.core.tensor_parallel import random as megatron_random

    megatron_random._get_cuda_rng_state = get_state
    megatron_random._set_cuda_rng_state = set_state


def _in_blocks(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Blocks of a megabyte, whose float64 copies fit into the cache."""
    if tensor.numel() <= _NORM_BLOCK:
        return (tensor,)
    return tensor.flatten().split(_NORM_BLOCK)  # type: ignore[no-untyped-call]


def _patch_gradient_norm() -> None:
    """torch accumulates a norm on CPU sequentially: over a million elements the error is 4e-6."""
    from megatron.core.optimizer import clip_grads

    def l2_norm(
        _chunk_size: int, _overflow: Any, tensor_lists: list[list[torch.Tensor]], *_rest: Any
    ) -> tuple[torch.Tensor, None]:
        norms = [
            torch.linalg.vector_norm(part, dtype=torch.float64)
            for tensors in tensor_lists
            for tensor in tensors
            for part in _in_blocks(tensor)
        ]
        return torch.stack(norms).norm().float().view(1), None

    clip_grads.l2_norm_impl = l2_norm


def _patch_token_dispatcher() -> None:
    """Megatron-core makes sizes of messages numbers as it copies them from a GPU, and only then."""
    from megatron.core.transformer.moe import token_dispatcher

    def on_host(tensor: Any, as_numpy: bool = False, record_stream: bool = False) -> Any:
        return tensor.numpy() if as_numpy and torch.is_tensor(tensor) else tensor

    token_dispatcher.maybe_move_tensor_to_cpu = on_host


def _patch_uneven_gathers() -> None:
    """gloo gathers and scatters equal parts only; an exchange may be of unequal ones."""
    from megatron.core.tensor_parallel import mappings

    gather, scatter = mappings._gather_along_first_dim, mappings._reduce_scatter_along_first_dim

    def gathered(own: Any, group: Any, output_split_sizes: Any = None, *buffer: Any) -> Any:
        if output_split_sizes is None or group.size() == 1:
            return gather(own, group, output_split_sizes, *buffer)
        sizes, ranks = list(map(int, output_split_sizes)), group.size()
        whole = own.new_empty(sum(sizes), *own.shape[1:])
        to_all = own.repeat(ranks, *[1] * (own.dim() - 1))
        torch.distributed.all_to_all_single(whole, to_all, sizes, [len(own)] * ranks, group=group)
        return whole

    def scattered(whole: Any, group: Any, input_split_sizes: Any = None, *buffer: Any) -> Any:
        if input_split_sizes is None or group.size() == 1:
            return scatter(whole, group, input_split_sizes, *buffer)
        sizes, ranks = list(map(int, input_split_sizes)), group.size()
        size = sizes[group.rank()]
        parts = whole.new_empty(ranks * size, *whole.shape[1:])
        torch.distributed.all_to_all_single(
            parts, whole.contiguous(), [size] * ranks, sizes, group=group
        )
        return parts.view(ranks, size, *whole.shape[1:]).sum(0)

    mappings._gather_along_first_dim = gathered
    mappings._reduce_scatter_along_first_dim = scattered
