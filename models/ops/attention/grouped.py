"""torch's attention where several queries' heads may share a head of keys and values.

torch's kernels for float32 and for masks take groups only on a CPU. On CUDA it would write out all
scores instead, [T, T] of each head: there keys and values are repeated for them.

Shape suffixes: B samples, N heads, T tokens, H head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query_BNTH: Tensor,
    key_BNTH: Tensor,
    value_BNTH: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """[B, N, T, H]; keys and values may have fewer heads, each for as many of the queries'."""
    key, value = key_BNTH, value_BNTH
    grouped = key.shape[1] < query_BNTH.shape[1]
    if grouped and query_BNTH.is_cuda:
        asked = torch.backends.cuda.SDPAParams(
            query_BNTH, key, value, mask, dropout, causal, grouped
        )
        if not torch.backends.cuda.can_use_flash_attention(asked):
            each = query_BNTH.shape[1] // key.shape[1]
            key, value = (_repeated(it, each) for it in (key, value))
            grouped = False
    return F.scaled_dot_product_attention(
        query_BNTH,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        enable_gqa=grouped,
    )


def _repeated(heads_BNTH: Tensor, times: int) -> Tensor:
    return heads_BNTH[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)
