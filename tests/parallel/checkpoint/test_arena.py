"""Copies of a checkpoint take hardly more host memory than they have numbers."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from parallel.checkpoint.arena import LARGEST, Arena


def test_tensors_are_apart_and_keep_their_shape_and_dtype() -> None:
    arena = Arena(pinned=False)
    given = [
        torch.randn(3, 5),
        torch.arange(7),
        torch.randn(2, 2).half(),
        torch.tensor(2.5),
        torch.randn(0, 4),
        torch.randn(700, 700),
        torch.randn(4, 6).t(),
    ]
    taken = [arena.empty_like(tensor).copy_(tensor) for tensor in given]
    for ours, tensor in zip(taken, given, strict=True):
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, tensor, rtol=0, atol=0)


def test_what_is_left_over_is_less_than_a_slab_and_little_for_a_small_model() -> None:
    def held(sizes: list[int]) -> tuple[int, int]:
        arena = Arena(pinned=False)
        for size in sizes:
            arena.empty_like(torch.empty(size, device="meta"))
        return arena.bytes, 4 * sum(sizes)

    # The tensors of a 1.3B model's rank of two: masters and two moments; never written to.
    layer = [2048, 2048, 4 * 1024 * 2048, 3 * 1024 * 2048, 3 * 1024, 1024 * 2048, 2048, 4096]
    bytes_held, needed = held(3 * [25_128 * 2048, 2048 * 2048, *(24 * layer)])
    assert needed <= bytes_held < needed + LARGEST
    bytes_held, needed = held(100 * [1000])
    assert bytes_held <= 2 * max(needed, 1 << 20)


def test_slabs_are_pinned_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cudart:
        answer = 0
        pinned: list[int] = []  # noqa: RUF012

        def cudaHostRegister(self, _address: int, size: int, _flags: int) -> int:
            self.pinned.append(size)
            return self.answer

        def cudaHostUnregister(self, _address: int) -> int:
            self.pinned.pop()
            return 0

    cudart: Any = Cudart()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    arena = Arena(pinned=True)
    arena.empty_like(torch.empty(3_000_000, device="meta"))
    assert cudart.pinned == [12_000_000] == [arena.bytes]
    cudart.answer = 2
    with pytest.raises(RuntimeError, match="cannot pin"):
        arena.empty_like(torch.empty(3_000_000, device="meta"))
    cudart.pinned.remove(12_000_000)  # of the refusal
    del arena
    gc.collect()
    assert cudart.pinned == []
