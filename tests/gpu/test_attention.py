"""Every way of banded attention that this device has, against the mask written out."""

from __future__ import annotations

import importlib.util

import pytest

from models.ops.attention.banded import AttentionBackend
from tests.gpu import jobs
from tests.gpu.kit import Check
from tests.gpu.machine import Machine
from tests.pool import RankPool

pytestmark = pytest.mark.gpu

WINDOW = 256  # GPT-3's here
# Below it and beyond, whole blocks and odd ones.
LENGTHS = [64, 256, 257, 300, 384, 512, 777, 1024, 1536, 2048]
OF_GROUPS = [256, 300, 1024]  # of them, where four heads share keys and values
SMALLER = 4  # times, in a rehearsal
WIDTHS = [64, 80, 96, 128]
CASES = [
    *((AttentionBackend.flash, width, "bfloat16") for width in WIDTHS),
    *((AttentionBackend.flex, width, "bfloat16") for width in WIDTHS),
    (AttentionBackend.flex, 64, "float32"),  # each length is compiled: others would take minutes
    *((AttentionBackend.blocked, width, "bfloat16") for width in WIDTHS),
    *((AttentionBackend.blocked, width, "float32") for width in WIDTHS),
]
GROUPED = [
    *((backend, 128, "bfloat16") for backend in AttentionBackend),
    (AttentionBackend.blocked, 64, "float32"),
]
# Beside twice the error of the mask itself, in units of the largest value times epsilon. In half
# precision the sums are made in float32, and inputs, probabilities and results are rounded: 2. In
# float32 sums of 256 products go in another order, whose rounding grows with the root: 16.
ROUNDING = {"bfloat16": 2, "float32": 16}


@pytest.mark.parametrize(("backend", "width", "dtype"), CASES)
def test_the_band_is_the_mask(
    machine: Machine,
    one_rank: RankPool,
    check: Check,
    backend: AttentionBackend,
    width: int,
    dtype: str,
) -> None:
    assert_is_the_mask(machine, one_rank, check, backend, width, dtype, LENGTHS, 1)


@pytest.mark.parametrize(("backend", "width", "dtype"), GROUPED)
def test_the_band_of_grouped_heads_is_the_mask(
    machine: Machine,
    one_rank: RankPool,
    check: Check,
    backend: AttentionBackend,
    width: int,
    dtype: str,
) -> None:
    assert_is_the_mask(machine, one_rank, check, backend, width, dtype, OF_GROUPS, 4)


def assert_is_the_mask(
    machine: Machine,
    one_rank: RankPool,
    check: Check,
    backend: AttentionBackend,
    width: int,
    dtype: str,
    lengths: list[int],
    each: int,
) -> None:
    if backend is AttentionBackend.flex:
        machine.needs_cuda("FlexAttention's backward pass needs CUDA")
    if backend is AttentionBackend.flash:
        machine.needs_cuda("flash-attn needs CUDA")
        if importlib.util.find_spec("flash_attn") is None:
            pytest.skip("flash-attn is not installed")
        machine.needs_capability((8, 0), "flash-attn")
    smaller = 1 if machine.is_cuda else SMALLER
    lengths = [length // smaller for length in lengths]
    job = (str(backend), width, lengths, WINDOW // smaller, dtype, each)
    (found,) = one_rank.run(1, jobs.attention_errors, *job)
    for tokens, ours, other, rounding in found:
        what = f"{tokens} tokens: largest error, forward and backward"
        check.within(what, ours, 2 * other + ROUNDING[dtype] * rounding)
