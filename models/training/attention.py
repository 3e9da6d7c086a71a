"""The core attention, after the projections: dense (causal) and locally banded.

Both have the interface of Megatron-core's `core_attention`, and rotate queries and keys themselves,
so that no schedule has to hand angles from layer to layer. Neither materialises a T x T matrix:
torch's scaled_dot_product_attention is flash attention on CUDA and CPU, and
`models.ops.banded_attention` computes only the band.

Shape suffixes: T tokens, B samples, N heads on this rank, H head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.ops.banded_attention import AttentionBackend, banded_attention
from models.ops.grouped_attention import attend
from models.ops.half_precision import upcast_if_unsupported
from models.ops.rotary import rotate, tables
from models.shape import ModelShape


class Rotation(torch.nn.Module):
    """Rotates queries and keys [T, B, N, H] by their positions, if the model has rotary ones."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.rotary, self.channels = shape.rotary, shape.rotated_channels

    def forward(self, query_TBNH: Tensor, key_TBNH: Tensor) -> tuple[Tensor, Tensor]:
        """Both rotated; both as they are without rotary positions."""
        if not self.channels:
            return query_TBNH, key_TBNH
        tokens, device = query_TBNH.shape[0], query_TBNH.device
        cos, sin = (
            table[:, None, None] for table in tables(self.rotary, self.channels, tokens, device)
        )
        return rotate(query_TBNH, cos, sin), rotate(key_TBNH, cos, sin)


class DenseAttention(torch.nn.Module):
    """Causal attention over the full context."""

    def __init__(
        self, config: Any, layer_number: int, *, shape: ModelShape, **_megatron: Any
    ) -> None:
        super().__init__()
        self.layer_number = layer_number
        self.dropout = config.attention_dropout
        self.on_cpu = bool(config.on_cpu)
        self.rotation = Rotation(shape)

    def forward(
        self,
        query_TBNH: Tensor,
        key_TBNH: Tensor,
        value_TBNH: Tensor,
        _attention_mask: Tensor | None = None,
        **_megatron: Any,
    ) -> Tensor:
        """Returns [T, B, N * H]; keys and values may have fewer heads, each for several queries."""
        # By the settings: a dry run's tensors are on the CPU even if the device is CUDA.
        query, key, value = (
            upcast_if_unsupported(x) if self.on_cpu else x
            for x in (query_TBNH, key_TBNH, value_TBNH)
        )
        query, key, value = (x.permute(1, 2, 0, 3) for x in (*self.rotation(query, key), value))
        out = self._attend(query, key, value).to(query_TBNH.dtype)
        return out.permute(2, 0, 1, 3).flatten(2)

    def _attend(self, query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor) -> Tensor:
        return attend(query_BNTH, key_BNTH, value_BNTH, causal=True, dropout=self._dropout())

    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0


class BandedAttention(DenseAttention):
    """Causal attention over the last `window` tokens, the current one included.

    Sparse Transformer's locally banded pattern (Child et al. 2019), as in GPT-3's odd layers.
    """

    def __init__(self, config: Any, layer_number: int, *, shape: ModelShape, **mega: Any) -> None:
        super().__init__(config, layer_number, shape=shape, **mega)
        self.window = shape.window
        self.backend: AttentionBackend = config.attention_backend

    def _attend(self, query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor) -> Tensor:
        return banded_attention(
            query_BNTH, key_BNTH, value_BNTH, self.window, self.backend, self._dropout()
        )


class RotatedAttention(torch.nn.Module):
    """Another implementation of the core attention, with queries and keys rotated before it."""

    def __init__(self, attention: torch.nn.Module, shape: ModelShape) -> None:
        super().__init__()
        self.attention = attention
        self.rotation = Rotation(shape)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **mega: Any) -> Any:
        """What the other implementation returns."""
        query, key = self.rotation(query, key)
        return self.attention(query, key, value, *rest, **mega)
