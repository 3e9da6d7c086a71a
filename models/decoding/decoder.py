"""A decoder for inference: the same weights, applied with torch alone, one token at a time.

Megatron-core's own inference needs CUDA and keeps all tokens of every layer; this keeps only a
window for a banded layer, and runs wherever torch does. Partial results of tensor ranks are summed
as in Megatron's layers (Shoeybi et al. 2019): twice per layer, and once for the embedding.

Shape suffixes: B rows, T tokens, H hidden, N heads on this rank, G query groups on this rank, D
head width, V vocabulary on this rank, R rows of hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.settings.network import Mlp, Norm, Positions, QkNorm, Residual
from models.decoding.experts import mixture
from models.decoding.kv_cache import BandedCache, DenseCache, NextTokens
from models.layer_table import FINAL_NORM, OUTPUT, POSITIONS, WORDS
from models.ops.padding import mask_padding
from models.ops.rotary import rotate, tables
from models.ops.softcap import capped
from models.shape import ModelShape

Caches = list[DenseCache]
AddUp = Callable[[Tensor], Tensor]
Weights = Mapping[str, Tensor]


def names_of_layer(layer: int, shape: ModelShape) -> dict[str, str]:
    """The global name of each parameter of a layer, by its name in the layer."""
    return {each.name: f"decoder.layers.{layer}.{each.name}" for each in shape.layer(layer)}


def names_of(layers: range, shape: ModelShape) -> list[str]:
    """The parameters used by a piece of these layers; the model's ends include the embedding."""
    names = [each.name for each in shape.embedding] if layers.start == 0 else []
    for layer in layers:
        names += names_of_layer(layer, shape).values()
    if layers.stop == shape.layers:
        names += [each.name for each in (*shape.final_norm, *shape.output)]
        names += [WORDS] if shape.tied and WORDS not in names else []
    return names


class Decoder:
    """The layers of one stage, and what precedes the first and follows the last.

    Args:
        weights: this rank's parts by global name, as listed by `names_of`.
        tensor_rank: which part of the vocabulary's rows this rank holds.
        add_up: sums a tensor over the tensor ranks, in place; None: there is only one.

    Attributes:
        router_bias: [expert layers, experts] of the whole model, float32: added to what experts
            are chosen by. None: there is none.
    """

    router_bias: Tensor | None = None

    def __init__(
        self,
        shape: ModelShape,
        layers: range,
        weights: Weights,
        tensor_rank: int = 0,
        add_up: AddUp | None = None,
    ) -> None:
        self.shape = shape
        self.layers = layers
        self._weights = weights
        self._add_up = add_up
        self._tensor_rank = tensor_rank
        self._layers: list[Weights] = [
            {key: weights[name] for key, name in names_of_layer(layer, shape).items()}
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
        """Embeds tokens and learned positions; [B, T, H]."""
        words = self._weights[WORDS]
        if self._add_up is None:
            embedded = F.embedding(tokens_BT, words)
        else:
            local = tokens_BT - self._tensor_rank * len(words)
            elsewhere = (local < 0) | (local >= len(words))
            embedded = F.embedding(local.masked_fill(elsewhere, 0), words)
            embedded = self._add_up(embedded.masked_fill(elsewhere[..., None], 0.0))
        if self.shape.positions is not Positions.learned:
            return embedded
        return embedded + F.embedding(positions_BT, self._weights[POSITIONS])

    def begin(self, hidden_BTH: Tensor, lengths_B: Tensor, caches: Caches) -> Tensor:
        """Runs the first tokens of every row, rows padded on the right; [B, T, H]."""
        angles = self._angles(torch.arange(hidden_BTH.shape[1], device=hidden_BTH.device)[None])
        for layer, cache in zip(self.layers, caches, strict=True):
            hidden_BTH = self._layer(layer, hidden_BTH, angles, partial(cache.fill, lengths_B))
        return hidden_BTH

    def extend(self, hidden_B1H: Tensor, at: NextTokens, caches: Caches) -> Tensor:
        """Runs one more token of every row, at its position; [B, 1, H]."""
        angles = self._angles(at.positions_B[:, None])
        for layer, cache in zip(self.layers, caches, strict=True):
            hidden_B1H = self._layer(layer, hidden_B1H, angles, partial(cache.extend, at))
        return hidden_B1H

    def logits(self, hidden_RH: Tensor) -> Tensor:
        """[R, V], on the last stage; vocabulary padding is -inf."""
        words = self._weights[WORDS if self.shape.tied else OUTPUT]
        normed = self._norm(self._weights, FINAL_NORM, hidden_RH)
        logits = capped(F.linear(normed, words).float(), self.shape.logit_softcap)
        mask_padding(logits, self.shape.vocab, self._tensor_rank)
        return logits

    def _angles(self, positions_BT: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines [B, 1, T, channels / 2] of rotary positions."""
        shape = self.shape
        if not shape.rotated_channels:
            return None
        cos, sin = tables(shape.rotary, shape.rotated_channels, shape.context, positions_BT.device)
        return cos[positions_BT][:, None], sin[positions_BT][:, None]

    def _layer(
        self,
        layer: int,
        hidden_BTH: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        attend: Callable[..., Tensor],
    ) -> Tensor:
        w = self._layers[layer - self.layers.start]
        before = self.shape.residual is not Residual.post_norm
        normed = self._norm(w, "input_layernorm", hidden_BTH) if before else hidden_BTH
        query, key, value = self._heads(w, normed)
        if angles is not None:
            query, key = rotate(query, *angles), rotate(key, *angles)
        mixed = attend(query, key, value).transpose(1, 2).flatten(2)
        attended = hidden_BTH + self._output(w, "self_attention.linear_proj", mixed)
        read = hidden_BTH if self.shape.residual is Residual.parallel else attended
        normed = self._norm(w, "pre_mlp_layernorm", read) if before else read
        if self.shape.has_experts(layer):
            return attended + self._mixed(w, layer, normed)
        inner = self._activated(_linear(w, "mlp.linear_fc1", normed))
        return attended + self._output(w, "mlp.linear_fc2", inner)

    def _mixed(self, w: Weights, layer: int, read_BTH: Tensor) -> Tensor:
        """What a layer's experts add to the residual stream."""

        def mlp(name: str, rows_CH: Tensor) -> Tensor:
            inner = self._activated(_linear(w, f"{name}.linear_fc1", rows_CH))
            # Each choice has a weight of its own, so a bias goes into the sum over ranks, once.
            bias = None if self._tensor_rank else w.get(f"{name}.linear_fc2.bias")
            return F.linear(inner, w[f"{name}.linear_fc2.weight"], bias)

        biases, at = self.router_bias, self.shape.expert_layers.index(layer)
        bias_E = None if biases is None else biases[at]
        out = mixture(w, self.shape.moe, read_BTH.flatten(0, 1), bias_E, mlp).view_as(read_BTH)
        if self._add_up is not None:
            out = self._add_up(out)
        return self._normed_after(w, "mlp.linear_fc2", out)

    def _heads(self, w: Weights, normed_BTH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, N, T, D], keys and values [B, G, T, D] of this rank."""
        shape = self.shape
        width, each = shape.head_width, shape.heads // shape.query_groups
        qkv = _linear(w, "self_attention.linear_qkv", normed_BTH)
        qkv_BTGQ = torch.unflatten(qkv, 2, (-1, (each + 2) * width))
        query, key, value = (
            it.reshape(*qkv.shape[:2], -1, width)
            for it in torch.split(qkv_BTGQ, [each * width, width, width], 3)
        )
        if shape.qk_norm is not QkNorm.none:
            query, key = (
                self._head_norm(w[f"self_attention.{name}_layernorm.weight"], heads, channels)
                for name, heads, channels in (
                    ("q", query, shape.query),
                    ("k", key, shape.key),
                )
            )
        query, key, value = (it.transpose(1, 2) for it in (query, key, value))
        return query, key, value

    def _head_norm(self, weight: Tensor, heads_BTND: Tensor, channels: int) -> Tensor:
        """Of each head, or of all heads of all ranks together, which have so many channels."""
        if self.shape.qk_norm is QkNorm.head:
            return F.rms_norm(heads_BTND, weight.shape, weight, self.shape.norm_epsilon)
        flat = heads_BTND.flatten(2).float()
        squares = flat.square().sum(-1, keepdim=True)
        if self._add_up is not None:
            squares = self._add_up(squares)
        scale = (squares / channels + self.shape.norm_epsilon).rsqrt()
        return (flat * scale * weight.float()).to(heads_BTND.dtype).view(heads_BTND.shape)

    def _norm(self, w: Weights, name: str, hidden: Tensor) -> Tensor:
        weight, epsilon = w[f"{name}.weight"], self.shape.norm_epsilon
        if self.shape.norm is Norm.rms:
            return F.rms_norm(hidden, weight.shape, weight, epsilon)
        return F.layer_norm(hidden, weight.shape, weight, w[f"{name}.bias"], epsilon)

    def _activated(self, inner: Tensor) -> Tensor:
        mlp = self.shape.mlp
        if not mlp.is_gated:
            return F.gelu(inner, approximate="tanh" if mlp is Mlp.gelu else "none")
        gate, linear = inner.chunk(2, -1)
        return (F.silu(gate) if mlp is Mlp.swiglu else F.gelu(gate, approximate="tanh")) * linear

    def _output(self, w: Weights, name: str, part: Tensor) -> Tensor:
        """What attention or MLP adds to the residual stream, from this rank's part of its input."""
        bias = w.get(f"{name}.bias")
        if self._add_up is None:
            out = F.linear(part, w[f"{name}.weight"], bias)
        else:
            out = self._add_up(F.linear(part, w[f"{name}.weight"]))
            out = out if bias is None else out + bias
        return self._normed_after(w, name, out)

    def _normed_after(self, w: Weights, name: str, out: Tensor) -> Tensor:
        after = self.shape.residual is Residual.post_norm
        return self._norm(w, f"{name}.norm", out) if after else out


def _linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))
