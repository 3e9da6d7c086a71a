"""The shape of a GPT-3 and what follows from it: parameters, layer by layer, and FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from configs.schema import AttentionPattern, ModelConfig

VOCAB_MULTIPLE = 128
"""The vocabulary is padded to a multiple of this, whatever the tensor size, so that a checkpoint
fits every layout (Megatron-LM pads to 128 x tensor, which does not)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer: pre-norm, learned positions, GELU, tied embeddings, biases."""

    layers: int
    hidden: int
    heads: int
    context: int
    vocab: int
    attention: AttentionPattern = AttentionPattern.alternating
    window: int = 256

    @classmethod
    def of(cls, model: ModelConfig) -> ModelShape:
        return cls(
            layers=model.layers,
            hidden=model.hidden,
            heads=model.heads,
            context=model.context,
            vocab=model.vocab,
            attention=model.attention,
            window=model.window,
        )

    @property
    def head_width(self) -> int:
        return self.hidden // self.heads

    @property
    def feed_forward(self) -> int:
        return 4 * self.hidden

    @property
    def padded_vocab(self) -> int:
        return -(-self.vocab // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    def is_banded(self, layer: int) -> bool:
        """Whether layer number `layer` (from 0) sees only a window. Alternating starts dense."""
        if self.attention is AttentionPattern.alternating:
            return layer % 2 == 1
        return self.attention is AttentionPattern.banded

    @property
    def layer_parameters(self) -> int:
        """Weights and biases of one layer: 12 h^2 + 13 h (Brown et al. 2020, recounted)."""
        return 12 * self.hidden**2 + 13 * self.hidden

    @property
    def embedding_parameters(self) -> int:
        """Token and position embeddings, the vocabulary unpadded; the output layer is tied."""
        return (self.vocab + self.context) * self.hidden

    @property
    def final_norm_parameters(self) -> int:
        return 2 * self.hidden

    @property
    def parameters(self) -> int:
        """All trainable numbers, the vocabulary unpadded, as in the paper's Table D.1."""
        return (
            self.layers * self.layer_parameters
            + self.final_norm_parameters
            + self.embedding_parameters
        )

    def shape_of(self, parameter: str) -> tuple[int, ...]:
        """[outputs, inputs] of a whole weight by its global name, [outputs] of a bias or norm."""
        h, inner = self.hidden, self.feed_forward
        rows = {"linear_qkv": 3 * h, "linear_proj": h, "linear_fc1": inner, "linear_fc2": h}
        for linear, outputs in rows.items():
            if f"{linear}." in parameter:
                inputs = inner if linear == "linear_fc2" else h
                return (outputs, inputs) if parameter.endswith("weight") else (outputs,)
        if "word_embeddings" in parameter:
            return (self.padded_vocab, h)
        return (self.context, h) if "position_embeddings" in parameter else (h,)
