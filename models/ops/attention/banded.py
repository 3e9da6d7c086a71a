"""Locally banded attention that computes only the band, with three backends.

A token sees the last `window` tokens, itself included (Child et al. 2019). Compute and memory of a
layer grow with tokens x window, not tokens^2, forward and backward:

- blocked: queries in blocks, each with the keys of its own block and of the window before it, all
  blocks in one batch of torch's scaled_dot_product_attention. Runs everywhere.
- flex: torch's FlexAttention on CUDA, compiled once per shape, which skips blocks outside the band.
- flash: flash-attn's own window, in half precision on Ampere and newer, where it is installed.

There may be more keys than queries: the first ones are then of tokens before the first query.

Shape suffixes: B samples, N heads on this rank, T queries, S keys (of a block), H head width.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from enum import StrEnum
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._guards import detect_fake_mode

from models.ops.attention.flex import flex_attention
from models.ops.attention.grouped import attend

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
    key_BNSH: Tensor,
    value_BNSH: Tensor,
    window: int,
    backend: AttentionBackend,
    dropout: float = 0.0,
    firsts_BT: Tensor | None = None,
) -> Tensor:
    """[B, N, T, H], each token over the last `window`; keys and values may have fewer heads.

    Args:
        firsts_BT: in host memory, the first key that each query may see, by its row; None: any.
    """
    tokens, keys = query_BNTH.shape[2], key_BNSH.shape[2]
    # A trace for CUDA compiles nothing: dense attention takes the same memory as flex and flash.
    traced = backend is not AttentionBackend.blocked and detect_fake_mode((query_BNTH,)) is not None
    if traced or (keys == tokens <= window and firsts_BT is None):
        causal = keys == tokens
        return attend(query_BNTH, key_BNSH, value_BNSH, causal=causal, dropout=dropout)
    if firsts_BT is not None and backend is AttentionBackend.flash:  # it knows no documents
        backend = AttentionBackend.blocked if dropout else AttentionBackend.flex
    return WAYS[backend](query_BNTH, key_BNSH, value_BNSH, window, dropout, firsts_BT)


def blocked_attention(
    query_BNTH: Tensor,
    key_BNSH: Tensor,
    value_BNSH: Tensor,
    window: int,
    dropout: float = 0.0,
    firsts_BT: Tensor | None = None,
) -> Tensor:
    """[B, N, T, H]; the last block is padded, its padding later than any real query."""
    tokens = query_BNTH.shape[2]
    early = key_BNSH.shape[2] - tokens  # keys before the first query
    block, before = max(window, _LEAST_BLOCK), window - 1
    blocks = -(-tokens // block)
    padding = blocks * block - tokens if blocks > 1 else 0
    query, key, value = (
        # torch copies even if there is nothing to pad.
        F.pad(it, (0, 0, 0, padding)) if padding else it
        for it in (query_BNTH, key_BNSH, value_BNSH)
    )
    if firsts_BT is not None and padding:
        firsts_BT = F.pad(firsts_BT, (0, padding))
    rows = min(tokens, block)
    first = attend(
        query[:, :, :rows],
        key[:, :, : early + rows],
        value[:, :, : early + rows],
        mask=_seen(rows, early, window, query.device, firsts_BT),
        dropout=dropout,
    )
    if blocks == 1:
        return first
    # Blocks come before heads, so that the heads of a group stay together.
    query, key, value = (
        torch.unflatten(it, 2, (blocks, block)).transpose(1, 2)
        for it in (query, key[:, :, early:], value[:, :, early:])
    )
    keys, values = (
        torch.cat([it[:, :-1, :, block - before :], it[:, 1:]], 3).flatten(0, 1)
        for it in (key, value)
    )
    if firsts_BT is not None:  # those of later blocks, by the rows of each block's keys
        begins = early + block * torch.arange(1, blocks)[:, None] - before
        firsts_BT = (torch.unflatten(firsts_BT, 1, (blocks, block))[:, 1:] - begins).flatten(0, 1)
    mask = _seen(block, before, window, query.device, firsts_BT)
    later = attend(query[:, 1:].flatten(0, 1), keys, values, mask=mask, dropout=dropout)
    later = torch.unflatten(later, 0, (-1, blocks - 1)).transpose(1, 2).flatten(2, 3)
    return torch.cat([first, later], 2)[:, :, :tokens]


def flash_attention(
    query_BNTH: Tensor,
    key_BNSH: Tensor,
    value_BNSH: Tensor,
    window: int,
    dropout: float = 0.0,
    firsts_BT: Tensor | None = None,
) -> Tensor:
    """[B, N, T, H], by flash-attn, in half precision on CUDA; it has no documents."""
    from flash_attn import flash_attn_func

    assert firsts_BT is None
    query, key, value = (it.transpose(1, 2) for it in (query_BNTH, key_BNSH, value_BNSH))
    # Its last query sees up to the last key.
    out_BTNH: Tensor = flash_attn_func(
        query, key, value, dropout_p=dropout, causal=True, window_size=(window - 1, 0)
    )
    return out_BTNH.transpose(1, 2)


def band_mask(tokens: int, window: int, device: torch.device, early: int = 0) -> Tensor:
    """[T, S], True where query i may see key j: i - window < j - early <= i."""
    query, key = (torch.arange(count, device=device) for count in (tokens, early + tokens))
    distance = query[:, None] + early - key[None, :]
    return (distance >= 0) & (distance < window)


def _seen(
    tokens: int, early: int, window: int, device: torch.device, firsts_BT: Tensor | None
) -> Tensor:
    """The band [T, S]; within documents [B, 1, T, S]."""
    band_TS = band_mask(tokens, window, device, early)
    if firsts_BT is None:
        return band_TS
    firsts = firsts_BT[:, :tokens].to(device, non_blocking=True)
    keys = torch.arange(early + tokens, device=device)
    return (band_TS & (keys >= firsts[..., None]))[:, None]


WAYS: dict[AttentionBackend, Callable[..., Tensor]] = {
    AttentionBackend.blocked: blocked_attention,
    AttentionBackend.flex: flex_attention,
    AttentionBackend.flash: flash_attention,
}
