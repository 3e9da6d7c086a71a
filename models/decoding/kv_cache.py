"""The KV cache, and attention over it.

Each row of a batch has its own length. New tokens always continue a row, so entries beyond its
length are never read. Keys and values may have fewer heads than queries, each for several of them.
Shape suffixes: B rows, N heads on this rank, T new tokens, S cached tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.ops.attention.banded import banded_attention, inference_backend
from models.ops.attention.grouped import attend


class _Slots(NamedTuple):
    """Where a cache of one size puts the new tokens, and which of its slots they see."""

    slots_B: Tensor
    seen: int  # slots in use by any row
    mask_B11S: Tensor | None  # None: every row sees all of them


class NextTokens:
    """The positions of one more token per row, for all layers.

    They are known on the host, so that no layer has to wait for the device to tell them.
    """

    def __init__(self, positions: Sequence[int], device: torch.device) -> None:
        self.positions_B = torch.tensor(positions, device=device)
        self.rows_B = torch.arange(len(positions), device=device)
        self._first, self._last = min(positions), max(positions)
        self._of_size: dict[int, _Slots] = {}

    def in_cache(self, size: int) -> _Slots:
        """Their slots in caches of `size` tokens per row, used in turn."""
        if size not in self._of_size:
            seen = min(self._last + 1, size)
            mask = None
            if self._first + 1 < seen:
                slots_S = torch.arange(seen, device=self.positions_B.device)
                mask = (slots_S <= self.positions_B[:, None])[:, None, None, :]
            self._of_size[size] = _Slots(self.positions_B % size, seen, mask)
        return self._of_size[size]


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
        self, at: NextTokens, query_BN1D: Tensor, key_BN1D: Tensor, value_BN1D: Tensor
    ) -> Tensor:
        """Attention of one more token per row, which is cached."""
        assert self._keys_BNSD is not None
        assert self._values_BNSD is not None
        slots_B, seen, mask_B11S = at.in_cache(self.size)
        self._keys_BNSD[at.rows_B, :, slots_B] = key_BN1D[:, :, 0]
        self._values_BNSD[at.rows_B, :, slots_B] = value_BN1D[:, :, 0]
        return attend(
            query_BN1D,
            self._keys_BNSD[:, :, :seen],
            self._values_BNSD[:, :, :seen],
            mask=mask_B11S,
        )

    def pick(self, rows_B: Tensor) -> None:
        """Keeps these rows, in this order; rows may repeat."""
        assert self._keys_BNSD is not None
        assert self._values_BNSD is not None
        self._keys_BNSD = self._keys_BNSD[rows_B]
        self._values_BNSD = self._values_BNSD[rows_B]

    def _first(self, query_BNTD: Tensor, key_BNTD: Tensor, value_BNTD: Tensor) -> Tensor:
        return attend(query_BNTD, key_BNTD, value_BNTD, causal=True)

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


class BandedCache(DenseCache):
    """The cache of a banded layer: the newest `window` tokens per row, in a ring buffer."""

    def __init__(self, size: int, window: int) -> None:
        super().__init__(min(size, window))
        self.window = window

    def _first(self, query_BNTD: Tensor, key_BNTD: Tensor, value_BNTD: Tensor) -> Tensor:
        backend = inference_backend(query_BNTD.device.type, query_BNTD.dtype)
        return banded_attention(query_BNTD, key_BNTD, value_BNTD, self.window, backend)

    def _kept(self, tokens: int, lengths_B: Tensor) -> Tensor | None:
        if tokens <= self.size:
            return None
        last_B1 = lengths_B[:, None] - 1
        place_S = torch.arange(self.size, device=lengths_B.device)
        return (last_B1 - (last_B1 - place_S) % self.size).clamp(min=0)
