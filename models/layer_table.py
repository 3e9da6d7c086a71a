"""The parameters of a GPT-3, defined once: counts, FLOPs, shards, traffic, shapes and initial
weights follow from these tables.

Names are Megatron-core's, in the order in which a rank holds them. Needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

NORM_EPSILON = 1e-5
"""Added to a LayerNorm's variance, as in GPT-2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A weight, a bias or a norm.

    Attributes:
        name: within its layer, or within the model.
        shape: [outputs, inputs] of a matrix, [outputs] of a bias or a norm.
        split: the dimension split over tensor ranks; None: replicated.
        to_residual: the matrix's output is added to the residual stream.
    """

    name: str
    shape: tuple[int, ...]
    split: int | None = None
    to_residual: bool = False

    @property
    def numbers(self) -> int:
        """The total number of elements."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether each of its elements costs a multiply-add per token."""
        return len(self.shape) == 2

    def shape_on_rank(self, tensor: int) -> tuple[int, ...]:
        """The shape of the part on each of `tensor` ranks."""
        parts = [tensor if dim == self.split else 1 for dim in range(len(self.shape))]
        return tuple(size // part for size, part in zip(self.shape, parts, strict=True))

    def numbers_on_rank(self, tensor: int) -> int:
        """Elements of the part on each of `tensor` ranks."""
        return math.prod(self.shape_on_rank(tensor))


@cache
def layer_table(hidden: int, feed_forward: int) -> tuple[Parameter, ...]:
    """The parameters of one transformer layer: pre-norm, fused QKV, GELU, biases everywhere."""
    return (
        *_norm("input_layernorm", hidden),
        *_linear("self_attention.linear_proj", hidden, hidden, split=1),
        *_linear("self_attention.linear_qkv", 3 * hidden, hidden, split=0),
        *_norm("pre_mlp_layernorm", hidden),
        *_linear("mlp.linear_fc1", feed_forward, hidden, split=0),
        *_linear("mlp.linear_fc2", hidden, feed_forward, split=1),
    )


@cache
def embedding_table(vocab: int, context: int, hidden: int) -> tuple[Parameter, ...]:
    """Token embedding, whose weight also produces the logits, and learned positions."""
    return (
        Parameter(name="embedding.word_embeddings.weight", shape=(vocab, hidden), split=0),
        Parameter(name="embedding.position_embeddings.weight", shape=(context, hidden)),
    )


@cache
def final_norm_table(hidden: int) -> tuple[Parameter, ...]:
    """The norm between the last layer and the logits."""
    return _norm("decoder.final_layernorm", hidden)


def _norm(name: str, width: int) -> tuple[Parameter, ...]:
    return tuple(Parameter(name=f"{name}.{kind}", shape=(width,)) for kind in ("weight", "bias"))


def _linear(name: str, outputs: int, inputs: int, *, split: int) -> tuple[Parameter, ...]:
    """Split by outputs (0, Megatron's column-parallel), or by inputs (1, row-parallel), which adds
    its bias after the sum over ranks.
    """
    return (
        Parameter(
            name=f"{name}.weight", shape=(outputs, inputs), split=split, to_residual=split == 1
        ),
        Parameter(name=f"{name}.bias", shape=(outputs,), split=0 if split == 0 else None),
    )
