"""torch's FlexAttention over a band, over documents, or both: on CUDA, compiled once per shape.

It skips blocks of scores of which nothing is seen, so its cost follows what is.
Shape suffixes: B samples, N heads on this rank, T queries, S keys, H head width.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor


def flex_attention(
    query_BNTH: Tensor,
    key_BNSH: Tensor,
    value_BNSH: Tensor,
    window: int | None,
    dropout: float = 0.0,
    firsts_BT: Tensor | None = None,
) -> Tensor:
    """[B, N, T, H], causal over the last `window` keys, or over all; it has no dropout.

    Args:
        firsts_BT: in host memory, the first key that each query may see, by its row; None: any.
    """
    assert not dropout
    tokens, keys, device = query_BNTH.shape[2], key_BNSH.shape[2], query_BNTH.device
    if firsts_BT is None:
        mask = _band(tokens, keys, window, device)
    else:
        firsts = firsts_BT.to(torch.int32).contiguous()
        mask = _documents(tokens, keys, window, device, firsts.numpy().tobytes())
    flex = _flex(query_BNTH.is_cuda)
    grouped = key_BNSH.shape[1] < query_BNTH.shape[1]
    return flex(query_BNTH, key_BNSH, value_BNSH, block_mask=mask, enable_gqa=grouped)


@cache
def _flex(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention as flex

    # Uncompiled it materialises all scores: for comparison only. With `fullgraph` it raises where
    # torch would otherwise stop to compile, and run uncompiled, after a number of shapes.
    if not compiled:
        return flex
    return torch.compile(flex, dynamic=False, fullgraph=True)


@lru_cache(maxsize=16)
def _band(tokens: int, keys: int, window: int | None, device: torch.device) -> Any:
    return _mask(1, tokens, keys, window, device, None)


@lru_cache(maxsize=16)  # every layer of a micro-batch asks for the same
def _documents(
    tokens: int, keys: int, window: int | None, device: torch.device, firsts: bytes
) -> Any:
    read = torch.frombuffer(bytearray(firsts), dtype=torch.int32).view(-1, tokens)
    return _mask(len(read), tokens, keys, window, device, read.to(device))


def _mask(
    samples: int,
    tokens: int,
    keys: int,
    window: int | None,
    device: torch.device,
    firsts_BT: Tensor | None,
) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    early = keys - tokens

    def seen(sample: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        distance = query + early - key
        found = distance >= 0
        if window is not None:
            found = found & (distance < window)
        if firsts_BT is not None:
            found = found & (key >= firsts_BT[sample, query])
        return found

    each = None if firsts_BT is None else samples
    return create_block_mask(seen, each, None, tokens, keys, device=device)
