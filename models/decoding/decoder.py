"""A GPT-3 for inference: the same weights, applied with torch alone, one token at a time.

Megatron-core's own inference needs CUDA and keeps all tokens of every layer; this keeps only a
window for a banded layer, and runs wherever torch does. Partial results of tensor ranks are summed
as in Megatron's layers (Shoeybi et al. 2019): twice per layer, and once for the embedding.

Shape suffixes: B rows, T tokens, H hidden, N heads on this rank, D head width, V vocabulary on this
rank, R rows of hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from models.decoding.kv_cache import BandedCache, DenseCache, NextTokens
from models.layer_table import NORM_EPSILON
from models.ops.padding import mask_padding
from models.shape import ModelShape

WORDS = "embedding.word_embeddings.weight"
POSITIONS = "embedding.position_embeddings.weight"
FINAL_NORM = "decoder.final_layernorm"

Caches = list[DenseCache]
AddUp = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """This rank's part of one layer: [outputs, inputs], with q, k and v of one head together."""

    norm: Tensor
    norm_bias: Tensor
    qkv: Tensor
    qkv_bias: Tensor
    projection: Tensor
    projection_bias: Tensor
    mlp_norm: Tensor
    mlp_norm_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor


_NAMES = {
    "norm": "input_layernorm",
    "qkv": "self_attention.linear_qkv",
    "projection": "self_attention.linear_proj",
    "mlp_norm": "pre_mlp_layernorm",
    "up": "mlp.linear_fc1",
    "down": "mlp.linear_fc2",
}


def names_of_layer(layer: int) -> dict[str, str]:
    """The global name of each of `LayerWeights`."""
    names = {}
    for field in fields(LayerWeights):
        short = field.name.removesuffix("_bias")
        kind = "bias" if field.name.endswith("_bias") else "weight"
        names[field.name] = f"decoder.layers.{layer}.{_NAMES[short]}.{kind}"
    return names


def names_of(layers: range, shape: ModelShape) -> list[str]:
    """The parameters used by a piece of these layers; the model's ends include the embedding."""
    names = [WORDS, POSITIONS] if layers.start == 0 else []
    for layer in layers:
        names += names_of_layer(layer).values()
    if layers.stop == shape.layers:
        names += [f"{FINAL_NORM}.weight", f"{FINAL_NORM}.bias"]
        names += [] if WORDS in names else [WORDS]
    return names


class Decoder:
    """The layers of one stage, and what precedes the first and follows the last.

    Args:
        weights: this rank's parts by global name, as listed by `names_of`.
        tensor_rank: which part of the vocabulary's rows this rank holds.
        add_up: sums a tensor over the tensor ranks, in place; None: there is only one.
    """

    def __init__(
        self,
        shape: ModelShape,
        layers: range,
        weights: Mapping[str, Tensor],
        tensor_rank: int = 0,
        add_up: AddUp | None = None,
    ) -> None:
        self.shape = shape
        self.layers = layers
        self._weights = weights
        self._add_up = add_up
        self._tensor_rank = tensor_rank
        self._layers = [
            LayerWeights(**{key: weights[name] for key, name in names_of_layer(layer).items()})
            for layer in layers
        ]

    def caches(self, size: int) -> Caches:
        """Empty caches with room for `size` tokens per row; 0: nothing is kept."""
        return [
            BandedCache(size, self.shape.window)
            if self.shape.is_banded(layer)
            else DenseCache(size)
            for layer in self.layers
        ]

    def embed(self, tokens_BT: Tensor, positions_BT: Tensor) -> Tensor:
        """Embeds tokens and positions; [B, T, H]."""
        words = self._weights[WORDS]
        if self._add_up is None:
            embedded = F.embedding(tokens_BT, words)
        else:
            local = tokens_BT - self._tensor_rank * len(words)
            elsewhere = (local < 0) | (local >= len(words))
            embedded = F.embedding(local.masked_fill(elsewhere, 0), words)
            embedded = self._add_up(embedded.masked_fill(elsewhere[..., None], 0.0))
        return embedded + F.embedding(positions_BT, self._weights[POSITIONS])

    def begin(self, hidden_BTH: Tensor, lengths_B: Tensor, caches: Caches) -> Tensor:
        """Runs the first tokens of every row, rows padded on the right; [B, T, H]."""
        for weights, cache in zip(self._layers, caches, strict=True):
            hidden_BTH = self._layer(weights, hidden_BTH, partial(cache.fill, lengths_B))
        return hidden_BTH

    def extend(self, hidden_B1H: Tensor, at: NextTokens, caches: Caches) -> Tensor:
        """Runs one more token of every row, at its position; [B, 1, H]."""
        for weights, cache in zip(self._layers, caches, strict=True):
            hidden_B1H = self._layer(weights, hidden_B1H, partial(cache.extend, at))
        return hidden_B1H

    def logits(self, hidden_RH: Tensor) -> Tensor:
        """[R, V], on the last stage; vocabulary padding is -inf."""
        norm, bias = (self._weights[f"{FINAL_NORM}.{kind}"] for kind in ("weight", "bias"))
        words = self._weights[WORDS]
        logits = F.linear(_norm(hidden_RH, norm, bias), words).float()
        mask_padding(logits, self.shape.vocab, self._tensor_rank)
        return logits

    def _layer(self, w: LayerWeights, hidden_BTH: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        rows, tokens, _ = hidden_BTH.shape
        normed = _norm(hidden_BTH, w.norm, w.norm_bias)
        qkv = F.linear(normed, w.qkv, w.qkv_bias)
        qkv_BNTD = qkv.view(rows, tokens, -1, 3, self.shape.head_width).transpose(1, 2).unbind(3)
        mixed = attend(*qkv_BNTD).transpose(1, 2).flatten(2)
        hidden_BTH = self._add(hidden_BTH, mixed, w.projection, w.projection_bias)
        normed = _norm(hidden_BTH, w.mlp_norm, w.mlp_norm_bias)
        inner = F.gelu(F.linear(normed, w.up, w.up_bias), approximate="tanh")
        return self._add(hidden_BTH, inner, w.down, w.down_bias)

    def _add(self, hidden: Tensor, part: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if self._add_up is None:
            return hidden + F.linear(part, weight, bias)
        return hidden + (self._add_up(F.linear(part, weight)) + bias)


def _norm(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(hidden, weight.shape, weight, bias, NORM_EPSILON)
