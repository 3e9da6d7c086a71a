"""The KV cache, and attention over it.

Each row of a batch has its own length. New tokens always continue a row, so entries beyond its
length are never read. Shape suffixes: B rows, N heads on this rank, T new tokens, S cached tokens,
D head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.banded_attention import attention_backend, banded_attention


class DenseCache:
    """The cache of a layer with full context: `size` tokens per row; 0: nothing is kept."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._keys_BNSD: Tensor | None = None
        self._values_BNSD: Tensor | None = None

    def fill(
        self, lengths_B: Tensor, query_BNTD: Tensor, key_BNTD: Tensor, value_BNTD: Tensor
    ) -> Tensor:
        """Attention over the first tokens, which are cached; rows are padded on the right."""
        if self.size:
            kept = self._kept(key_BNTD.shape[2], lengths_B)
            self._keys_BNSD = self._stored(key_BNTD, kept)
            self._values_BNSD = self._stored(value_BNTD, kept)
        return self._first(query_BNTD, key_BNTD, value_BNTD)

    def extend(
        self, positions_B: Tensor, query_BN1D: Tensor, key_BN1D: Tensor, value_BN1D: Tensor
    ) -> Tensor:
        """Attention of one more token per row, at `positions_B`, which is cached."""
        assert self._keys_BNSD is not None
        assert self._values_BNSD is not None
        rows = torch.arange(len(positions_B), device=positions_B.device)
        places_B = positions_B % self.size
        self._keys_BNSD[rows, :, places_B] = key_BN1D[:, :, 0]
        self._values_BNSD[rows, :, places_B] = value_BN1D[:, :, 0]
        seen = min(int(positions_B.max()) + 1, self.size)
        mask = None
        if seen <= int(positions_B.max()) or int(positions_B.min()) + 1 < seen:
            mask = self._seen(positions_B, seen)[:, None, None, :]
        return F.scaled_dot_product_attention(
            query_BN1D, self._keys_BNSD[:, :, :seen], self._values_BNSD[:, :, :seen], attn_mask=mask
        )

    def pick(self, rows_B: Tensor) -> None:
        """Keeps these rows, in this order; rows may repeat."""
        assert self._keys_BNSD is not None
        assert self._values_BNSD is not None
        self._keys_BNSD = self._keys_BNSD[rows_B]
        self._values_BNSD = self._values_BNSD[rows_B]

    def _first(self, query_BNTD: Tensor, key_BNTD: Tensor, value_BNTD: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query_BNTD, key_BNTD, value_BNTD, is_causal=True)

    def _kept(self, tokens: int, lengths_B: Tensor) -> Tensor | None:
        """[B, S]: which token each slot holds; None: the first ones, in order."""
        return None

    def _stored(self, new_BNTD: Tensor, kept_BS: Tensor | None) -> Tensor:
        rows, heads, tokens, width = new_BNTD.shape
        stored = new_BNTD.new_zeros(rows, heads, self.size, width)
        if kept_BS is None:
            stored[:, :, :tokens] = new_BNTD
        else:
            places = kept_BS[:, None, :, None].expand(rows, heads, self.size, width)
            stored.copy_(new_BNTD.gather(2, places))
        return stored

    def _seen(self, positions_B: Tensor, seen: int) -> Tensor:
        """[B, S], True where a row has a token."""
        return torch.arange(seen, device=positions_B.device) <= positions_B[:, None]


class BandedCache(DenseCache):
    """The cache of a banded layer: the newest `window` tokens per row, in a ring buffer."""

    def __init__(self, size: int, window: int) -> None:
        super().__init__(min(size, window))
        self.window = window

    def _first(self, query_BNTD: Tensor, key_BNTD: Tensor, value_BNTD: Tensor) -> Tensor:
        way = attention_backend(query_BNTD.device.type, query_BNTD.dtype)
        return banded_attention(query_BNTD, key_BNTD, value_BNTD, self.window, way)

    def _kept(self, tokens: int, lengths_B: Tensor) -> Tensor | None:
        if tokens <= self.size:
            return None
        last_B1 = lengths_B[:, None] - 1
        place_S = torch.arange(self.size, device=lengths_B.device)
        return (last_B1 - (last_B1 - place_S) % self.size).clamp(min=0)
