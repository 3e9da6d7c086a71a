"""The shape of a GPT-3: its sizes, and the parameters that follow from them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from configs.schema import AttentionPattern, ModelConfig
from models.layer_table import (
    Parameter,
    embedding_table,
    final_norm_table,
    layer_matrices,
    layer_numbers,
    layer_table,
)

_IN_A_LAYER = re.compile(r"^decoder\.layers\.\d+\.")

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
        """The shape of a model's settings."""
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
        """Channels of one attention head."""
        return self.hidden // self.heads

    @property
    def feed_forward(self) -> int:
        """Channels between the MLP's two linears."""
        return 4 * self.hidden

    @property
    def padded_vocab(self) -> int:
        """Rows of the token embedding."""
        return -(-self.vocab // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    def is_banded(self, layer: int) -> bool:
        """Whether layer number `layer` (from 0) sees only a window. Alternating starts dense."""
        if self.attention is AttentionPattern.alternating:
            return layer % 2 == 1
        return self.attention is AttentionPattern.banded

    @property
    def layer(self) -> tuple[Parameter, ...]:
        """The parameters of one layer, named within the layer."""
        return layer_table(self.hidden, self.feed_forward)

    @property
    def layer_parameters(self) -> int:
        """Weights and biases of one layer: 12 h^2 + 13 h (Brown et al. 2020, recounted)."""
        return self.layer_on_rank(1)

    def layer_on_rank(self, tensor: int) -> int:
        """Numbers of one layer on each of `tensor` ranks."""
        return layer_numbers(self.hidden, self.feed_forward, tensor)

    def matrices(self, tensor: int = 1) -> tuple[tuple[int, ...], ...]:
        """[outputs, inputs] of each of a layer's matrices on each of `tensor` ranks."""
        return layer_matrices(self.hidden, self.feed_forward, tensor)

    def matrix_numbers_on_rank(self, tensor: int) -> int:
        """Numbers of one layer's matrices on each of `tensor` ranks."""
        return sum(each.numbers_on_rank(tensor) for each in self.layer if each.is_matrix)

    @property
    def embedding_parameters(self) -> int:
        """Token and position embeddings, the vocabulary unpadded; the output layer is tied."""
        table = embedding_table(self.vocab, self.context, self.hidden)
        return sum(each.numbers for each in table)

    @property
    def padded_embedding(self) -> tuple[Parameter, ...]:
        """Token and position embeddings as stored, with padding."""
        return embedding_table(self.padded_vocab, self.context, self.hidden)

    @property
    def final_norm(self) -> tuple[Parameter, ...]:
        """The norm before the logits."""
        return final_norm_table(self.hidden)

    @property
    def parameters(self) -> int:
        """The number of trainable elements without padding, as in the paper's Table D.1."""
        return (
            self.layers * self.layer_parameters
            + sum(each.numbers for each in self.final_norm)
            + self.embedding_parameters
        )

    def parameter(self, name: str) -> Parameter:
        """The parameter with a global name, such as decoder.layers.3.mlp.linear_fc1.weight.

        Raises KeyError if the model has no such parameter.
        """
        within = _IN_A_LAYER.sub("", name)
        table = self.layer if within != name else (*self.padded_embedding, *self.final_norm)
        for each in table:
            if each.name == within:
                return each
        raise KeyError(name)
