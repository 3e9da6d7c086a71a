"""Every way of banded attention against the mask written out; none makes a T x T matrix."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.attention.banded import (
    AttentionBackend,
    attention_backend,
    band_mask,
    banded_attention,
    blocked_attention,
    flash_fault,
    inference_backend,
)
from models.ops.attention.flex import _flex, flex_attention
from parallel.planner.trace.memory_tracker import Storages

LENGTHS = [(64, 64), (65, 64), (100, 7), (129, 1), (200, 70), (257, 64), (300, 128)]


def inputs(tokens: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    # As a layer gives them: heads apart in memory, tokens outermost.
    made = [torch.randn(tokens, 2, 3, 16, generator=generator) for _ in range(3)]
    return [it.to(dtype).permute(1, 2, 0, 3).requires_grad_() for it in made]


def masked(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    mask = band_mask(query.shape[2], window, query.device)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def outputs(attend: Any, tokens: int, dtype: torch.dtype) -> list[Tensor]:
    given = inputs(tokens, dtype)
    out = attend(*given)
    weights = torch.arange(out.numel(), dtype=torch.float64).sin().view_as(out).to(dtype)
    return [out, *torch.autograd.grad(out, given, weights)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("tokens", "window"), LENGTHS)
@pytest.mark.parametrize(
    "backend", [blocked_attention, partial(banded_attention, backend=AttentionBackend.blocked)]
)
def test_blocks_are_the_mask(backend: Any, tokens: int, window: int, dtype: torch.dtype) -> None:
    got = outputs(partial(backend, window=window), tokens, dtype)
    expected = outputs(partial(masked, window=window), tokens, dtype)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("tokens", "window"), LENGTHS)
def test_half_precision_is_as_near_to_the_truth_as_the_mask(tokens: int, window: int) -> None:
    def exact(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return masked(query.double(), key.double(), value.double(), window).to(torch.bfloat16)

    got = outputs(partial(blocked_attention, window=window), tokens, torch.bfloat16)
    theirs = outputs(partial(masked, window=window), tokens, torch.bfloat16)
    truth = outputs(exact, tokens, torch.bfloat16)
    for ours, other, true in zip(got, theirs, truth, strict=True):
        rounding = torch.finfo(torch.bfloat16).eps * true.abs().max()
        assert (ours - true).abs().max() <= 2 * (other - true).abs().max() + rounding


@pytest.mark.parametrize(("tokens", "window"), [(128, 32), (200, 70)])
def test_flex_is_the_mask(tokens: int, window: int) -> None:
    # Its backward pass needs CUDA.
    query, key, value = (it.detach() for it in inputs(tokens, torch.float32))
    expected = masked(query, key, value, window)
    torch.testing.assert_close(flex_attention(query, key, value, window), expected)


def test_memory_grows_with_tokens_not_with_their_square() -> None:
    peaks = []
    for tokens in (512, 2048):
        with Storages() as storages:
            outputs(partial(blocked_attention, window=64), tokens, torch.float32)
        peaks.append(storages.peak_bytes)
    assert peaks[1] < 4.6 * peaks[0]  # of 4 times the tokens, and 31 later blocks for 7


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes torch tell of a GPU of this capability, on a machine with these packages."""

    def make(capability: tuple[int, int], *packages: str) -> None:
        flash_fault.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        found = {name: object() for name in packages}
        monkeypatch.setattr(importlib.util, "find_spec", found.get)
        for name in packages:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))

    yield make
    flash_fault.cache_clear()


def test_the_backend_is_what_the_gpu_and_its_packages_allow(gpu: Callable[..., None]) -> None:
    gpu((9, 0))
    assert attention_backend("cpu", torch.bfloat16) is AttentionBackend.blocked
    assert attention_backend("cuda", torch.bfloat16) is AttentionBackend.flex
    assert attention_backend("cuda", torch.float32, dropout=0.1) is AttentionBackend.blocked
    gpu((8, 0), "flash_attn")
    assert attention_backend("cuda", torch.bfloat16) is AttentionBackend.flash
    assert attention_backend("cuda", torch.float32) is AttentionBackend.flex


@pytest.mark.parametrize("capability", [(7, 0), (7, 5)], ids=["V100", "RTX 8000"])
def test_a_gpu_before_ampere_has_no_flash(
    gpu: Callable[..., None], capability: tuple[int, int]
) -> None:
    gpu(capability, "flash_attn")
    assert attention_backend("cuda", torch.float16) is AttentionBackend.flex
    assert f"{capability[0]}.{capability[1]}" in str(flash_fault())


def test_a_flash_attn_that_does_not_import_is_not_taken(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu((9, 0), "flash_attn")
    monkeypatch.delitem(sys.modules, "flash_attn")
    (tmp_path / "flash_attn.py").write_text("raise OSError('undefined symbol: of another torch')")
    monkeypatch.syspath_prepend(tmp_path)
    assert attention_backend("cuda", torch.bfloat16) is AttentionBackend.flex
    assert "another torch" in str(flash_fault())


def test_prompts_of_any_length_compile_nothing(gpu: Callable[..., None]) -> None:
    gpu((9, 0))
    assert inference_backend("cuda", torch.bfloat16) is AttentionBackend.blocked
    gpu((9, 0), "flash_attn")
    assert inference_backend("cuda", torch.bfloat16) is AttentionBackend.flash


def test_a_shape_too_many_is_an_error_and_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would run FlexAttention uncompiled from there on, and write out all scores."""
    import torch._dynamo
    from torch._dynamo.exc import FailOnRecompileLimitHit

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    _flex.cache_clear()
    torch._dynamo.reset()
    try:
        with torch._dynamo.config.patch(recompile_limit=2, disable=False):
            attend = _flex(True)
            for tokens in (128, 256):
                attend(*(it.detach() for it in inputs(tokens, torch.float32)))
            with pytest.raises(FailOnRecompileLimitHit):
                attend(*(it.detach() for it in inputs(384, torch.float32)))
    finally:
        _flex.cache_clear()
        torch._dynamo.reset()
