"""Locally banded attention that computes only the band, with three backends.

A token sees the last `window` tokens, itself included (Child et al. 2019). Compute and memory of a
layer grow with tokens x window, not tokens^2, forward and backward:

- blocked: queries in blocks, each with the keys of its own block and of the window before it, all
  blocks in one batch of torch's scaled_dot_product_attention. Runs everywhere.
- flex: torch's FlexAttention on CUDA, compiled once per shape, which skips blocks outside the band.
- flash: flash-attn's own window, in half precision on Ampere and newer, where it is installed.

Shape suffixes: B samples, N heads on this rank, T tokens, S keys of a block, H head width.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._guards import detect_fake_mode

from models.ops.grouped_attention import attend

_LEAST_BLOCK = 64  # queries; smaller matmuls are inefficient
_HALVES = (torch.float16, torch.bfloat16)
_FLASH_FROM = (8, 0)  # compute capability, by flash-attn's README


class AttentionBackend(StrEnum):
    """The implementation of banded attention."""

    blocked = "blocked"
    flex = "flex"
    flash = "flash"


def attention_backend(device: str, dtype: torch.dtype, dropout: float = 0.0) -> AttentionBackend:
    """The fastest backend for training on a device of this type."""
    if device != "cuda":
        return AttentionBackend.blocked
    if dtype in _HALVES and flash_fault() is None:
        return AttentionBackend.flash
    return AttentionBackend.blocked if dropout else AttentionBackend.flex


def inference_backend(device: str, dtype: torch.dtype) -> AttentionBackend:
    """The same for prompts, whose lengths vary: FlexAttention compiles for each length anew."""
    backend = attention_backend(device, dtype)
    return AttentionBackend.blocked if backend is AttentionBackend.flex else backend


@cache
def flash_fault() -> str | None:
    """Why flash-attn cannot be used on this process's GPU; None if it can."""
    if importlib.util.find_spec("flash_attn") is None:
        return "not installed"
    if not torch.cuda.is_available():
        return "no CUDA device"
    capability = torch.cuda.get_device_capability()
    if capability < _FLASH_FROM:
        return "needs Ampere or newer, and this GPU's compute capability is {}.{}".format(
            *capability
        )
    try:
        importlib.import_module("flash_attn")
    except Exception as error:  # built for another torch or CUDA
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def banded_attention(
    query_BNTH: Tensor,
    key_BNTH: Tensor,
    value_BNTH: Tensor,
    window: int,
    backend: AttentionBackend,
    dropout: float = 0.0,
) -> Tensor:
    """[B, N, T, H], each token over the last `window`; keys and values may have fewer heads."""
    # A trace for CUDA compiles nothing: dense attention takes the same memory as flex and flash.
    traced = backend is not AttentionBackend.blocked and detect_fake_mode((query_BNTH,)) is not None
    if query_BNTH.shape[2] <= window or traced:
        return attend(query_BNTH, key_BNTH, value_BNTH, causal=True, dropout=dropout)
    return WAYS[backend](query_BNTH, key_BNTH, value_BNTH, window, dropout)


def blocked_attention(
    query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, window: int, dropout: float = 0.0
) -> Tensor:
    """[B, N, T, H]; the last block is padded, its padding later than any real query."""
    heads, tokens = query_BNTH.shape[1:3]
    block = max(window, _LEAST_BLOCK)
    if tokens <= block:
        mask = band_mask(tokens, window, query_BNTH.device)
        return attend(query_BNTH, key_BNTH, value_BNTH, mask=mask, dropout=dropout)
    blocks = -(-tokens // block)
    padding = blocks * block - tokens
    before = window - 1
    query, key, value = (
        # torch copies even if there is nothing to pad.
        torch.unflatten(F.pad(it, (0, 0, 0, padding)) if padding else it, 2, (blocks, block))
        for it in (query_BNTH, key_BNTH, value_BNTH)
    )
    band_TS = band_mask(block + before, window, query.device)[before:]
    # The first block has no predecessor.
    first = attend(
        query[:, :, 0], key[:, :, 0], value[:, :, 0], mask=band_TS[:, before:], dropout=dropout
    )
    # Blocks come before heads, so that the heads of a group stay together.
    key, value = (it.transpose(1, 2) for it in (key, value))
    keys, values = (
        torch.cat([it[:, :-1, :, block - before :], it[:, 1:]], 3).flatten(1, 2)
        for it in (key, value)
    )
    queries = query[:, :, 1:].transpose(1, 2).flatten(1, 2)
    later = attend(queries, keys, values, mask=band_TS, dropout=dropout)
    later = torch.unflatten(later, 1, (blocks - 1, heads)).transpose(1, 2)
    out = torch.cat([first[:, :, None], later], 2)
    return out.flatten(2, 3)[:, :, :tokens]


def flex_attention(
    query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, window: int, dropout: float = 0.0
) -> Tensor:
    """[B, N, T, H], by FlexAttention, which has no dropout."""
    assert not dropout
    mask = _flex_mask(query_BNTH.shape[2], window, query_BNTH.device)
    flex = _flex(query_BNTH.is_cuda)
    grouped = key_BNTH.shape[1] < query_BNTH.shape[1]
    return flex(query_BNTH, key_BNTH, value_BNTH, block_mask=mask, enable_gqa=grouped)


def flash_attention(
    query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, window: int, dropout: float = 0.0
) -> Tensor:
    """[B, N, T, H], by flash-attn, in half precision on CUDA."""
    from flash_attn import flash_attn_func

    query, key, value = (it.transpose(1, 2) for it in (query_BNTH, key_BNTH, value_BNTH))
    out_BTNH: Tensor = flash_attn_func(
        query, key, value, dropout_p=dropout, causal=True, window_size=(window - 1, 0)
    )
    return out_BTNH.transpose(1, 2)


def band_mask(tokens: int, window: int, device: torch.device) -> Tensor:
    """[T, T], True where query i may see key j: i - window < j <= i."""
    place = torch.arange(tokens, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


WAYS: dict[AttentionBackend, Callable[[Tensor, Tensor, Tensor, int, float], Tensor]] = {
    AttentionBackend.blocked: blocked_attention,
    AttentionBackend.flex: flex_attention,
    AttentionBackend.flash: flash_attention,
}


@cache
def _flex(compiled: bool) -> Any:
    from torch.nn.attention import flex_attention as flex

    # Uncompiled it materialises all scores: for comparison only. With `fullgraph` it raises where
    # torch would otherwise stop to compile, and run uncompiled, after a number of shapes.
    if not compiled:
        return flex.flex_attention
    return torch.compile(flex.flex_attention, dynamic=False, fullgraph=True)


@lru_cache(maxsize=16)
def _flex_mask(tokens: int, window: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(_sample: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key < window)

    return create_block_mask(seen, None, None, tokens, tokens, device=device)
