"""torch.cuda's functions for a device that does nothing, and counts of those that wait for it.

What torch's Python asks of a device: streams and events in order, one generator, an H100's figures.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch

from parallel.runtime.cpu_bridge import _InOrder

waits: Counter[str] = Counter()
"""How often the host has waited for the device, by the function that does."""

CAPABILITY = (9, 0)
_TYPES = {"FloatTensor": torch.float32, "IntTensor": torch.int32, "ByteTensor": torch.uint8}


def install() -> None:
    """Replaces them for the rest of this process."""
    cuda: Any = torch.cuda
    properties = SimpleNamespace(
        name="none", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132
    )
    generator = torch.Generator()
    for name, value in {
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_capability": CAPABILITY,
        "get_device_properties": properties,
        "get_device_name": "none",
        "set_device": None,
        "empty_cache": None,
        "init": None,
        "_lazy_init": None,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "reset_peak_memory_stats": None,
        "manual_seed": None,
        "manual_seed_all": None,
        "is_bf16_supported": True,
    }.items():
        setattr(cuda, name, lambda *_args, value=value, **_kwargs: value)
    cuda.synchronize = lambda *_args, **_kwargs: waits.update(["synchronize"])
    cuda.current_stream = cuda.default_stream = lambda *_args, **_kwargs: _InOrder()
    cuda.stream = lambda *_args, **_kwargs: nullcontext()
    cuda.device = lambda *_args, **_kwargs: nullcontext()
    cuda.Stream = type("Stream", (_Waits,), {})
    cuda.Event = type("Event", (_Waits,), {"elapsed_time": lambda *_: 0.0})
    for module in (cuda, cuda.random):
        module.get_rng_state = lambda *_args, **_kwargs: generator.get_state()
        module.set_rng_state = lambda state, *_args, **_kwargs: generator.set_state(state)
    torch.Tensor.record_stream = lambda *_: None  # type: ignore[method-assign]
    cuda.default_generators = (generator,)
    for name, dtype in _TYPES.items():
        setattr(
            cuda, name, lambda data, dtype=dtype: torch.tensor(data, dtype=dtype, device="cuda")
        )
    cuda.nvtx = SimpleNamespace(
        range_push=lambda *_: None, range_pop=lambda *_: None, mark=lambda *_: None
    )


class _Waits(_InOrder):
    """One that the host waits for."""

    def synchronize(self) -> None:
        waits.update([f"{type(self).__name__}.synchronize"])
