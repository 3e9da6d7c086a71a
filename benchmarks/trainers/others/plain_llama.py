"""Llama written plainly, with what torch ships: what the engine's model is compared with.

Shape suffixes: B samples, T tokens, D hidden, N heads, G query groups, H head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.trainers.others.taking import take_weights
from models.shape import ModelShape
from parallel.engines.named_parameters import NamedParameter

_LAYER = {
    "input_layernorm": "norm_1",
    "self_attention.linear_qkv": "qkv",
    "self_attention.linear_proj": "out",
    "pre_mlp_layernorm": "norm_2",
    "mlp.linear_fc1": "gate_up",
    "mlp.linear_fc2": "down",
}
_OUTSIDE = {
    "embedding.word_embeddings": "tokens",
    "decoder.final_layernorm": "norm",
    "output_layer": "logits",
}


class Layer(nn.Module):
    """Grouped attention and SwiGLU, each after an RMSNorm; no biases."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.widths = [shape.query, shape.key, shape.key]
        self.head_width = shape.head_width
        self.norm_1 = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)
        self.qkv = nn.Linear(shape.hidden, sum(self.widths), bias=False)
        self.out = nn.Linear(shape.query, shape.hidden, bias=False)
        self.norm_2 = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)
        self.gate_up = nn.Linear(shape.hidden, 2 * shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x_BTD: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
        x_BTD = x_BTD + self._attend(self.norm_1(x_BTD), cos_TH, sin_TH)
        gate, up = self.gate_up(self.norm_2(x_BTD)).chunk(2, dim=-1)
        return x_BTD + self.down(F.silu(gate) * up)

    def _attend(self, x_BTD: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
        samples, tokens, _ = x_BTD.shape
        q_BNTH, k_BGTH, v_BGTH = (
            part.view(samples, tokens, -1, self.head_width).transpose(1, 2)
            for part in self.qkv(x_BTD).split(self.widths, dim=2)
        )
        q_BNTH, k_BGTH = (_rotated(x, cos_TH, sin_TH) for x in (q_BNTH, k_BGTH))
        y_BNTH = F.scaled_dot_product_attention(
            q_BNTH, k_BGTH, v_BGTH, is_causal=True, enable_gqa=True
        )
        return self.out(y_BNTH.transpose(1, 2).flatten(2))


class PlainLlama(nn.Module):
    """The model and its loss."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)
        self.logits = nn.Linear(shape.hidden, shape.vocab, bias=False)
        pairs = torch.arange(0, shape.head_width, 2) / shape.head_width
        angles = torch.outer(torch.arange(shape.context), shape.rotary.base**-pairs)
        self.cos_TH, self.sin_TH = (
            torch.cat([table, table], dim=-1) for table in (angles.cos(), angles.sin())
        )

    def forward(self, tokens_BT: Tensor, labels_BT: Tensor) -> Tensor:
        """The mean loss over tokens."""
        x_BTD, length = self.tokens(tokens_BT), tokens_BT.shape[1]
        for layer in self.layers:
            x_BTD = layer(x_BTD, self.cos_TH[:length], self.sin_TH[:length])
        logits_BTV = self.logits(self.norm(x_BTD))
        return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten())

    def take(self, weights: Iterable[NamedParameter]) -> None:
        """Takes the weights of an engine on one rank."""
        take_weights(self, weights, self.shape, in_layer=_LAYER, outside=_OUTSIDE)


def _rotated(x_BNTH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    first, second = x_BNTH.chunk(2, dim=-1)
    return x_BNTH * cos_TH + torch.cat([-second, first], dim=-1) * sin_TH
