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
        return self.numbers if self.split is None else self.numbers // tensor


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWork:
    """What a layer keeps and moves beside its matmuls: numbers for each token and hidden channel.

    Attributes:
        kept: for the backward pass, on every tensor rank: two norms' and two linears' inputs.
        kept_split: shared out: queries, keys, values, attention's output, GELU's input and output
            (Korthikanti et al. 2022, section 4).
        moved: by element-wise kernels, on every tensor rank: two norms, two residual additions.
        moved_split: shared out: biases, GELU on the width of the MLP.
    """

    kept: int
    kept_split: int
    moved: int
    moved_split: int


LAYER_WORK = LayerWork(kept=4, kept_split=12, moved=11, moved_split=14)


# A search of layouts asks these for each of thousands.


@cache
def layer_numbers(hidden: int, feed_forward: int, tensor: int) -> int:
    """Numbers of one layer on each of `tensor` ranks."""
    return sum(each.numbers_on_rank(tensor) for each in layer_table(hidden, feed_forward))


@cache
def layer_matrices(hidden: int, feed_forward: int, tensor: int) -> tuple[tuple[int, ...], ...]:
    """[outputs, inputs] of each of one layer's matrices on each of `tensor` ranks."""
    table = layer_table(hidden, feed_forward)
    return tuple(each.shape_on_rank(tensor) for each in table if each.is_matrix)


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
