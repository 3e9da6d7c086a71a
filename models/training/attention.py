"""The core attention, after the projections: dense (causal) and locally banded.

Both have the interface of Megatron-core's `core_attention`. Neither materialises a T x T matrix:
torch's scaled_dot_product_attention is flash attention on CUDA and CPU, and
`models.ops.banded_attention` computes only the band.

Shape suffixes: T tokens, B samples, N heads on this rank, H head width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.banded_attention import AttentionBackend, banded_attention
from models.ops.half_precision import upcast_if_unsupported


class DenseAttention(torch.nn.Module):
    """Causal attention over the full context."""

    def __init__(self, config: Any, layer_number: int, **_megatron: Any) -> None:
        super().__init__()
        self.layer_number = layer_number
        self.dropout = config.attention_dropout
        self.on_cpu = bool(config.on_cpu)

    def forward(
        self,
        query_TBNH: Tensor,
        key_TBNH: Tensor,
        value_TBNH: Tensor,
        _attention_mask: Tensor | None = None,
        **_megatron: Any,
    ) -> Tensor:
        """Returns [T, B, N * H]."""
        # By the settings: a dry run's tensors are on the CPU even if the device is CUDA.
        query, key, value = (
            (upcast_if_unsupported(x) if self.on_cpu else x).permute(1, 2, 0, 3)
            for x in (query_TBNH, key_TBNH, value_TBNH)
        )
        out = self._attend(query, key, value).to(query_TBNH.dtype)
        return out.permute(2, 0, 1, 3).flatten(2)

    def _attend(self, query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            query_BNTH, key_BNTH, value_BNTH, dropout_p=self._dropout(), is_causal=True
        )

    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0


class BandedAttention(DenseAttention):
    """Causal attention over the last `window` tokens, the current one included.

    Sparse Transformer's locally banded pattern (Child et al. 2019), as in GPT-3's odd layers.
    """

    def __init__(self, config: Any, layer_number: int, *, window: int, **megatron: Any) -> None:
        super().__init__(config, layer_number, **megatron)
        self.window = window
        self.backend: AttentionBackend = config.attention_backend

    def _attend(self, query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor) -> Tensor:
        return banded_attention(
            query_BNTH, key_BNTH, value_BNTH, self.window, self.backend, self._dropout()
        )
