"""GPT-3 written plainly, as in nanoGPT: what the engine's model is compared with.

Shape suffixes: B samples, T tokens, D hidden, N heads, H head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.trainers.others.plain_llama import PlainLlama
from benchmarks.trainers.others.taking import take_weights
from configs.schema import OptimizerConfig
from configs.settings.network import Positions
from models.ops.attention.banded import band_mask
from models.shape import ModelShape
from parallel.engines.named_parameters import NamedParameter

# The engine's global names of a layer's parts, and the names here.
_LAYER = {
    "input_layernorm": "norm_1",
    "self_attention.linear_qkv": "qkv",
    "self_attention.linear_proj": "out",
    "pre_mlp_layernorm": "norm_2",
    "mlp.linear_fc1": "up",
    "mlp.linear_fc2": "down",
}
_OUTSIDE = {
    "embedding.word_embeddings": "tokens",
    "embedding.position_embeddings": "positions",
    "decoder.final_layernorm": "norm",
}


class Layer(nn.Module):
    def __init__(self, shape: ModelShape, *, banded: bool) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm_1 = nn.LayerNorm(shape.hidden)
        self.qkv = nn.Linear(shape.hidden, 3 * shape.hidden)
        self.out = nn.Linear(shape.hidden, shape.hidden)
        self.norm_2 = nn.LayerNorm(shape.hidden)
        self.up = nn.Linear(shape.hidden, shape.feed_forward)
        self.down = nn.Linear(shape.feed_forward, shape.hidden)
        self.mask_TT = (
            band_mask(shape.context, shape.window, torch.device("cpu")) if banded else None
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self._attend(self.norm_1(x_BTD))
        return x_BTD + self.down(F.gelu(self.up(self.norm_2(x_BTD)), approximate="tanh"))

    def _attend(self, x_BTD: Tensor) -> Tensor:
        samples, tokens, hidden = x_BTD.shape
        q_BNTH, k_BNTH, v_BNTH = (
            part.view(samples, tokens, self.heads, hidden // self.heads).transpose(1, 2)
            for part in self.qkv(x_BTD).split(hidden, dim=2)
        )
        mask = self.mask_TT
        y_BNTH = F.scaled_dot_product_attention(
            q_BNTH, k_BNTH, v_BNTH, attn_mask=mask, is_causal=mask is None
        )
        return self.out(y_BNTH.transpose(1, 2).reshape(samples, tokens, hidden))


class PlainGPT(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.positions = nn.Embedding(shape.context, shape.hidden)
        self.layers = nn.ModuleList(
            Layer(shape, banded=shape.is_banded(number)) for number in range(shape.layers)
        )
        self.norm = nn.LayerNorm(shape.hidden)
        self.logits = nn.Linear(shape.hidden, shape.vocab, bias=False)
        self.logits.weight = self.tokens.weight

    def forward(self, tokens_BT: Tensor, labels_BT: Tensor) -> Tensor:
        """The mean loss over tokens."""
        place_T = torch.arange(tokens_BT.shape[1])
        x_BTD = self.tokens(tokens_BT) + self.positions(place_T)
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        logits_BTV = self.logits(self.norm(x_BTD))
        return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten())

    def take(self, weights: Iterable[NamedParameter]) -> None:
        """Takes the weights of an engine on one rank."""
        take_weights(self, weights, self.shape, in_layer=_LAYER, outside=_OUTSIDE)


def plain_model(shape: ModelShape) -> PlainGPT | PlainLlama:
    """The plain model of this shape: a GPT-3, or a Llama."""
    return PlainGPT(shape) if shape.positions is Positions.learned else PlainLlama(shape)


class PlainTraining:
    """Gradient accumulation, clipping and AdamW as torch ships them."""

    def __init__(self, model: PlainGPT | PlainLlama, optimizer: OptimizerConfig) -> None:
        self.model = model
        self._clip = optimizer.clip
        matrices = [p for p in model.parameters() if p.dim() >= 2]
        vectors = [p for p in model.parameters() if p.dim() < 2]
        self.adam = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": optimizer.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=optimizer.learning_rate,
            betas=(optimizer.beta1, optimizer.beta2),
            eps=optimizer.epsilon,
        )

    def step(
        self, micro_batches: list[Tensor], learning_rate: float, *, exact_norm: bool = False
    ) -> tuple[float, float]:
        """Loss and gradient norm of a step over tokens [B, T + 1].

        Args:
            exact_norm: the norm is told in float64; torch's own is off by 1e-4 of 38M numbers.
        """
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        total = torch.zeros(())
        for tokens in micro_batches:
            loss = self.model(tokens[:, :-1], tokens[:, 1:]) / len(micro_batches)
            loss.backward()
            total += loss.detach()
        exact = self._exact_norm() if exact_norm else None
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return float(total), float(norm) if exact is None else exact

    def _exact_norm(self) -> float:
        grads = [p.grad.double() for p in self.model.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(grads))
