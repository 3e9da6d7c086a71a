"""The attention itself, after the projections: dense (all earlier tokens) and locally banded.

Both have the interface of Megatron-core's `core_attention` and go through torch's
scaled_dot_product_attention, which is flash attention on CUDA and CPU: the dense one never makes a
T x T matrix.

Shape suffixes: T tokens, B samples, N heads on this rank, H head width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class DenseAttention(torch.nn.Module):
    """Causal attention over the whole context."""

    def __init__(self, config: Any, layer_number: int, **_megatron: Any) -> None:
        super().__init__()
        self.layer_number = layer_number
        self.dropout = config.attention_dropout

    def forward(
        self,
        query_TBNH: Tensor,
        key_TBNH: Tensor,
        value_TBNH: Tensor,
        _attention_mask: Tensor | None = None,
        **_megatron: Any,
    ) -> Tensor:
        """Returns [T, B, N * H]."""
        return _attend(query_TBNH, key_TBNH, value_TBNH, mask=None, dropout=self._dropout())

    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0


class BandedAttention(DenseAttention):
    """Causal attention over the last `window` tokens, the current one included.

    Sparse Transformer's locally banded pattern (Child et al. 2019), as in GPT-3's odd layers.
    """

    def __init__(self, config: Any, layer_number: int, *, window: int, **megatron: Any) -> None:
        super().__init__(config, layer_number, **megatron)
        self.window = window
        self._mask_TT: Tensor | None = None

    def forward(
        self,
        query_TBNH: Tensor,
        key_TBNH: Tensor,
        value_TBNH: Tensor,
        _attention_mask: Tensor | None = None,
        **_megatron: Any,
    ) -> Tensor:
        tokens = query_TBNH.shape[0]
        if self._mask_TT is None or self._mask_TT.shape[0] != tokens:
            self._mask_TT = band_mask(tokens, self.window, query_TBNH.device)
        return _attend(
            query_TBNH, key_TBNH, value_TBNH, mask=self._mask_TT, dropout=self._dropout()
        )


def band_mask(tokens: int, window: int, device: torch.device) -> Tensor:
    """[T, T], True where query i may see key j: i - window < j <= i."""
    place = torch.arange(tokens, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


def _attend(
    query_TBNH: Tensor, key_TBNH: Tensor, value_TBNH: Tensor, *, mask: Tensor | None, dropout: float
) -> Tensor:
    query, key, value = (x.permute(1, 2, 0, 3) for x in (query_TBNH, key_TBNH, value_TBNH))
    out_BNTH = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None
    )
    return out_BNTH.permute(2, 0, 1, 3).flatten(2)
