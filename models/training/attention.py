"""The core attention, after the projections: dense (causal) and locally banded.

Both have the interface of Megatron-core's `core_attention`, and rotate queries and keys themselves,
so that no schedule has to hand angles from layer to layer. Neither materialises a T x T matrix:
torch's scaled_dot_product_attention is flash attention on CUDA and CPU, and
`models.ops.attention.banded` computes only the band. Where a sequence is split over ranks,
`models.training.context` has ways to do the same.

In the place of Megatron-core's mask they take where documents begin, as
`models.ops.attention.documents` has it, or None.

Shape suffixes: T tokens on this rank, B samples, N heads on this rank, H head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from configs.schema import ContextBy
from models.ops.attention.banded import AttentionBackend, banded_attention
from models.ops.attention.documents import attend_within_documents
from models.ops.attention.grouped import attend
from models.ops.half_precision import upcast_if_unsupported
from models.ops.rotary import rotate, tables
from models.shape import ModelShape
from models.training.context.exchange import attend_exchanged
from models.training.context.gather import attend_gathered
from models.training.context.halo import attend_with_halo
from models.training.context.ring import attend_round
from models.training.context.split import Split

SPLIT_WAYS: Mapping[ContextBy, Callable[..., Tensor]] = {
    ContextBy.gather: attend_gathered,
    ContextBy.ring: attend_round,
    ContextBy.exchange: attend_exchanged,
}


class Rotation(torch.nn.Module):
    """Rotates queries and keys [T, B, N, H] by their positions, if the model has rotary ones.

    Args:
        split: how the sequence is split over ranks; None: it is not.
        restarts: positions count from the beginning of each document.
    """

    def __init__(
        self, shape: ModelShape, split: Split | None = None, *, restarts: bool = False
    ) -> None:
        super().__init__()
        self.rotary, self.channels = shape.rotary, shape.rotated_channels
        self.split, self.restarts = split, restarts

    def forward(
        self, query_TBNH: Tensor, key_TBNH: Tensor, starts_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both rotated; both as they are without rotary positions."""
        if not self.channels:
            return query_TBNH, key_TBNH
        tokens, device = query_TBNH.shape[0], query_TBNH.device
        ranks = 1 if self.split is None else self.split.ranks
        angles = tables(self.rotary, self.channels, tokens * ranks, device)
        if starts_BT is not None and self.restarts:
            places = positions_of(starts_BT, self.split).to(device, non_blocking=True).T
            cos, sin = (table[places][:, :, None] for table in angles)
        elif self.split is None:
            cos, sin = (table[:, None, None] for table in angles)
        else:
            cos, sin = (self.split.own(table, 0)[:, None, None] for table in angles)
        return rotate(query_TBNH, cos, sin), rotate(key_TBNH, cos, sin)


def positions_of(starts_BT: Tensor, split: Split | None) -> Tensor:
    """[B, T]: the positions of this rank's tokens in their documents."""
    places = torch.arange(starts_BT.shape[1], dtype=starts_BT.dtype) - starts_BT
    return places if split is None else split.own(places, 1)


class DenseAttention(torch.nn.Module):
    """Causal attention over the full context."""

    def __init__(
        self, config: Any, layer_number: int, *, shape: ModelShape, **_megatron: Any
    ) -> None:
        super().__init__()
        self.layer_number = layer_number
        self.dropout = config.attention_dropout
        self.on_cpu = bool(config.on_cpu)
        self.split = Split.here() if config.context_parallel_size > 1 else None
        self.split_way = SPLIT_WAYS[config.context_by]
        assert not (self.split and self.dropout)  # which no setting asks for
        self.rotation = Rotation(shape, self.split, restarts=config.restart_positions)

    def forward(
        self,
        query_TBNH: Tensor,
        key_TBNH: Tensor,
        value_TBNH: Tensor,
        starts_BT: Tensor | None = None,
        **_megatron: Any,
    ) -> Tensor:
        """Returns [T, B, N * H]; keys and values may have fewer heads, each for several queries.

        Args:
            starts_BT: of all the sequence's tokens, in host memory.
        """
        # By the settings: a dry run's tensors are on the CPU even if the device is CUDA.
        query, key, value = (
            upcast_if_unsupported(x) if self.on_cpu else x
            for x in (query_TBNH, key_TBNH, value_TBNH)
        )
        query, key = self.rotation(query, key, starts_BT)
        if self.split is not None:  # what is sent to other ranks is in the run's precision
            query, key, value = (x.to(query_TBNH.dtype) for x in (query, key, value))
        query, key, value = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        out = self._attend(query, key, value, starts_BT).to(query_TBNH.dtype)
        return out.permute(2, 0, 1, 3).flatten(2)

    def _attend(
        self, query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, starts_BT: Tensor | None
    ) -> Tensor:
        if self.split is not None:
            return self.split_way(query_BNTH, key_BNTH, value_BNTH, self.split, starts_BT)
        if starts_BT is not None:
            return attend_within_documents(query_BNTH, key_BNTH, value_BNTH, starts_BT)
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

    def _attend(
        self, query_BNTH: Tensor, key_BNTH: Tensor, value_BNTH: Tensor, starts_BT: Tensor | None
    ) -> Tensor:
        both = query_BNTH, key_BNTH, value_BNTH
        ranks = 1 if self.split is None else self.split.ranks
        if self.window >= ranks * query_BNTH.shape[2]:
            return super()._attend(*both, starts_BT)
        if self.split is not None:
            return attend_with_halo(*both, self.window, self.backend, self.split, starts_BT)
        return banded_attention(
            *both, self.window, self.backend, self._dropout(), firsts_BT=starts_BT
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
