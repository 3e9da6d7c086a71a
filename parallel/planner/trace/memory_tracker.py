"""Tracks the memory of tensors, real or fake: live bytes and their peak, by category.

Every operation's new storages are added when it returns and removed when they die, wherever the
last reference was: a variable, autograd's graph, a list of the schedule. So views count once, and
storages replaced by `tensor.data = ...` are gone.

Of CUDA's caching allocator it models that each storage takes full blocks of 512 bytes. It does not
model the pools that blocks are cut from, hence neither fragmentation nor reserved memory; nor
allocations inside kernels, such as the workspaces of cuBLAS.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from torch import Tensor
from torch.nn.modules import module as modules
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK = 512  # bytes


class Category(StrEnum):
    """What memory is used for, as far as can be determined."""

    parameters = "parameters"
    gradients = "gradients"
    optimizer = "optimizer"  # float32 masters and moments
    activations = "activations"  # outputs and inputs of modules, including recomputation
    logits = "logits"  # and anything else as wide as the vocabulary on this rank
    buffers = "buffers"  # communication buffers and temporaries


def blocks(size: int) -> int:
    """`size` in bytes, rounded up to the allocator's blocks."""
    return -(-size // BLOCK) * BLOCK


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, tracks all storages that operations create.

    Args:
        logits_width: the last dimension that identifies logits; 0: there are none.
    """

    def __init__(self, logits_width: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self._peak_bytes = 0
        self.live_bytes = 0
        self._logits_width = logits_width
        self._live = dict.fromkeys(Category, 0)
        self._at_peak = dict(self._live)
        self._known: dict[int, _Storage] = {}
        self._views: dict[Any, bool] = {}
        self._depth = 0  # of nested module calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        if isinstance(out, Tensor):
            if not self._gives_views(func):
                self._follow(out)
        elif isinstance(out, (tuple, list)) and not self._gives_views(func):
            for each in out:
                if isinstance(each, Tensor):
                    self._follow(each)
        return out

    def _gives_views(self, func: Any) -> bool:
        """Whether the result of `func` shares the storage of its inputs."""
        known = self._views.get(func)
        if known is None:
            returns = func._schema.returns
            known = bool(returns) and all(each.alias_info is not None for each in returns)
            self._views[func] = known
        return known

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        # DeepSpeed keeps weight shapes as meta tensors, which take no memory.
        if key in self._known or tensor.device.type == "meta":
            return
        if tensor.dim() > 1 and tensor.shape[-1] == self._logits_width:
            category = Category.logits
        else:
            category = Category.activations if self._depth else Category.buffers
        size = blocks(storage.nbytes())
        self._known[key] = _Storage(storage, self, key, size, category)
        self._live[category] += size
        self.live_bytes += size

    def _forget(self, key: int) -> None:
        self._note_peak()
        gone = self._known.pop(key)
        self._live[gone.category] -= gone.size
        self.live_bytes -= gone.size

    def _note_peak(self) -> None:
        # Only before memory is freed: while it grows, every moment would be a new peak.
        if self.live_bytes > self._peak_bytes:
            self._peak_bytes = self.live_bytes
            self._at_peak = dict(self._live)

    def label(self, tensors: Iterable[Tensor], category: Category, *was: Category) -> None:
        """Sets the category of the tensors' storages; only of those in the categories `was`, if
        given.
        """
        for tensor in tensors:
            known = self._known.get(tensor.untyped_storage()._cdata)
            if known is not None and (not was or known.category in was):
                self._live[known.category] -= known.size
                self._live[category] += known.size
                known.category = category

    @property
    def peak_bytes(self) -> int:
        """Maximum live bytes since the beginning, or since `restart_peak`."""
        self._note_peak()
        return self._peak_bytes

    def at_peak(self) -> dict[Category, int]:
        """Live bytes at the peak by category; they sum to `peak_bytes`."""
        self._note_peak()
        return dict(self._at_peak)

    def live(self) -> dict[Category, int]:
        """Bytes live now, by category."""
        return dict(self._live)

    def restart_peak(self) -> None:
        """Resets the peak to what is live now."""
        self._peak_bytes = -1
        self._note_peak()

    @contextmanager
    def watching_modules(self) -> Iterator[None]:
        """Identifies activations by the modules being called."""

        def enter(_module: Any, inputs: Any) -> None:
            self._depth += 1
            given = (each for each in inputs if isinstance(each, Tensor))
            self.label(given, Category.activations, Category.buffers)

        def leave(_module: Any, _inputs: Any, _output: Any) -> None:
            self._depth -= 1

        hooks = (
            modules.register_module_forward_pre_hook(enter),
            modules.register_module_forward_hook(leave, always_call=True),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class _Storage:
    """One live storage; notifies its tracker when it dies."""

    __slots__ = ("category", "reference", "size")

    def __init__(
        self, storage: Any, follower: Storages, key: int, size: int, category: Category
    ) -> None:
        self.size = size
        self.category = category
        self.reference = weakref.ref(storage, lambda _: follower._forget(key))
