"""Host memory for the copies that checkpoints are written from, in slabs of just what they need.

torch rounds each pinned tensor up to a power of two bytes: 18 GiB of copies become 25. Here
tensors are cut from a few large slabs, which are pinned as they are.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 512 << 20  # bytes of a slab, unless one tensor needs more: the most that is left over
_SMALLEST = 1 << 20
_ALIGNED = 512  # bytes: whole sectors of a disk
_PORTABLE = 1  # cudaHostRegisterPortable: pinned for every CUDA context


class Arena:
    """Tensors that live as long as it does.

    `pinned`: registers its memory with CUDA; copies from a GPU are then several times as fast.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._slabs: list[_Slab] = []

    @property
    def bytes(self) -> int:
        """All memory that it holds."""
        return sum(slab.memory.nbytes for slab in self._slabs)

    def empty_like(self, tensor: Tensor) -> Tensor:
        """An uninitialized contiguous tensor of the same shape and dtype.

        Raises RuntimeError if CUDA pins no more memory.
        """
        size = tensor.numel() * tensor.element_size()
        slab = next((slab for slab in self._slabs if slab.free >= size), None)
        if slab is None:
            # Each as large as all before it, so that a small model takes little.
            slab = _Slab(self._memory(max(size, min(LARGEST, max(self.bytes, _SMALLEST)))))
            self._slabs.append(slab)
        return slab.take(size).view(tensor.dtype).view(tensor.shape)

    def _memory(self, size: int) -> Tensor:
        pages = _Pages(-1, size)
        memory = torch.frombuffer(pages, dtype=torch.uint8)
        if self._pinned:
            pages.pin(memory.data_ptr())
        return memory


class _Pages(mmap.mmap):
    """Pages of this process alone, which go back to the system with the last tensor on them."""

    _address: int | None = None  # where they are registered with CUDA

    def pin(self, address: int) -> None:
        """Registers them with CUDA. Raises RuntimeError if it pins no more."""
        cudart = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        if failed := int(cudart.cudaHostRegister(address, len(self), _PORTABLE)):
            raise RuntimeError(
                f"CUDA cannot pin {len(self) / 2**20:,.0f} MiB of host memory (error {failed})"
            )
        self._address = address

    def __del__(self) -> None:
        if self._address is not None:  # or the next pages there would count as registered
            with suppress(Exception):  # CUDA may be gone, at the end of the process
                torch.cuda.cudart().cudaHostUnregister(self._address)  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class _Slab:
    memory: Tensor
    used: int = 0

    @property
    def free(self) -> int:
        return self.memory.nbytes - self.used

    def take(self, size: int) -> Tensor:
        begin = self.used
        self.used = min(begin + -(-size // _ALIGNED) * _ALIGNED, self.memory.nbytes)
        return self.memory[begin : begin + size]
