"""The parameters of a decoder, defined once: counts, FLOPs, shards, traffic, shapes and initial
weights follow from these tables.

Names are Megatron-core's, in the order in which a rank holds them. Needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

from configs.settings.network import Biases, Mlp, Norm, QkNorm, Residual

WORDS = "embedding.word_embeddings.weight"
POSITIONS = "embedding.position_embeddings.weight"
FINAL_NORM = "decoder.final_layernorm"
OUTPUT = "output_layer.weight"
ROUTER = "mlp.router.weight"
VOCAB_MULTIPLE = 128
"""Rows of the vocabulary on all ranks together are a multiple of this, and of the ranks."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Over how many ranks the parameters of a layer are cut.

    Attributes:
        tensor: ranks that share each matmul outside the routed experts.
        expert: ranks that a layer's experts are dealt out to.
        expert_tensor: ranks that share each expert's matmuls.
    """

    tensor: int = 1
    expert: int = 1
    expert_tensor: int = 1


WHOLE = Cut()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A weight, a bias or a norm.

    Attributes:
        name: within its layer, or within the model.
        shape: [outputs, inputs] of a matrix, [outputs] of a bias or a norm; without padding.
        split: the dimension split over tensor ranks; None: replicated.
        blocks: equal blocks of that dimension, each of which is split: 2 for the gate and the
            linear half of a gated MLP.
        padded: its rows are the vocabulary's, with padding on the last ranks.
        to_residual: the matrix's output is added to the residual stream.
        summed: replicated, but applied to a part of the heads: a rank's gradient is partial.
        expert: the number of the routed expert that it belongs to; None: it is of no expert.
    """

    name: str
    shape: tuple[int, ...]
    split: int | None = None
    blocks: int = 1
    padded: bool = False
    to_residual: bool = False
    summed: bool = False
    expert: int | None = None

    @property
    def numbers(self) -> int:
        """The total number of elements, without padding."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether each of its elements costs a multiply-add per token."""
        return len(self.shape) == 2

    def parts(self, cut: Cut) -> int:
        """Ranks that share it, if it is split."""
        return cut.tensor if self.expert is None else cut.expert_tensor

    def shape_on_rank(self, tensor: int) -> tuple[int, ...]:
        """The shape of the part on each of `tensor` ranks, with padding."""
        if self.padded:
            return (padded_rows(self.shape[0], tensor) // tensor, *self.shape[1:])
        parts = [tensor if dim == self.split else 1 for dim in range(len(self.shape))]
        return tuple(size // part for size, part in zip(self.shape, parts, strict=True))

    def numbers_on_rank(self, tensor: int) -> int:
        """Elements of the part on each of `tensor` ranks."""
        return math.prod(self.shape_on_rank(tensor))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerForm:
    """What determines the parameters of a layer.

    Attributes:
        query: channels of all heads' queries.
        key: channels of all query groups' keys, as many as of their values.
        feed_forward: channels between the MLP's linears, of one half if it is gated.
        experts: routed experts in place of the MLP; 0: there is one MLP.
        top_k: experts that a token is sent to.
        expert_feed_forward: `feed_forward` of an expert.
        shared: `feed_forward` of the shared expert; 0: there is none.
    """

    hidden: int
    query: int
    key: int
    head_width: int
    feed_forward: int
    norm: Norm
    residual: Residual
    mlp: Mlp
    biases: Biases
    qk_norm: QkNorm
    experts: int = 0
    top_k: int = 0
    expert_feed_forward: int = 0
    shared: int = 0

    @property
    def halves(self) -> int:
        """Blocks of an MLP's first linear: two if it is gated."""
        return 2 if self.mlp.is_gated else 1

    @property
    def inner(self) -> int:
        """Inner channels of all MLPs that a token goes through."""
        if not self.experts:
            return self.feed_forward
        return self.shared + self.top_k * self.expert_feed_forward


@cache
def layer_table(form: LayerForm) -> tuple[Parameter, ...]:
    """The parameters of one transformer layer, with fused QKV."""
    every = form.biases is Biases.all
    before = form.residual is not Residual.post_norm
    qkv = form.query + 2 * form.key

    def norm(name: str, there: bool) -> tuple[Parameter, ...]:
        return _norm(name, form.hidden, form.norm) if there else ()

    def linear(
        name: str, outputs: int, inputs: int, *, split: int, bias: bool = every, blocks: int = 1
    ) -> tuple[Parameter, ...]:
        return _linear(name, outputs, inputs, split=split, bias=bias, blocks=blocks)

    return (
        *norm("input_layernorm", before),
        *linear("self_attention.linear_proj", form.hidden, form.query, split=1),
        *norm("self_attention.linear_proj.norm", not before),
        *linear("self_attention.linear_qkv", qkv, form.hidden, split=0, bias=form.biases.of_qkv),
        *_qk_norms(form),
        *norm("pre_mlp_layernorm", before),
        *(_mixture(form) if form.experts else _mlp(form, "mlp", form.feed_forward)),
        *norm("mlp.linear_fc2.norm", not before),
    )


@cache
def layer_held(form: LayerForm, cut: Cut, expert_rank: int = 0) -> tuple[Parameter, ...]:
    """Those of which a rank holds all or a part, in order: all but other ranks' experts."""
    each = form.experts // cut.expert
    own = range(expert_rank * each, (expert_rank + 1) * each)
    return tuple(it for it in layer_table(form) if it.expert is None or it.expert in own)


def _mlp(
    form: LayerForm, name: str, feed_forward: int, expert: int | None = None
) -> tuple[Parameter, ...]:
    bias, up = form.biases is Biases.all, form.halves * feed_forward
    both = (
        *_linear(f"{name}.linear_fc1", up, form.hidden, split=0, bias=bias, blocks=form.halves),
        *_linear(f"{name}.linear_fc2", form.hidden, feed_forward, split=1, bias=bias, blocks=1),
    )
    return both if expert is None else tuple(replace(each, expert=expert) for each in both)


def _mixture(form: LayerForm) -> tuple[Parameter, ...]:
    """The router, the routed experts, and the shared one."""
    router = Parameter(name=ROUTER, shape=(form.experts, form.hidden))
    shared = _mlp(form, "mlp.shared_experts", form.shared) if form.shared else ()
    routed = (
        each
        for number in range(form.experts)
        for each in _mlp(form, f"mlp.experts.{number}", form.expert_feed_forward, number)
    )
    return (router, *routed, *shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWork:
    """What a layer keeps and moves beside its matmuls: numbers for each token.

    Attributes:
        kept: for the backward pass, on every tensor rank: the inputs of its norms and of the
            linears that read the full width.
        kept_split: shared out: queries, keys, values, attention's output, the activation's input
            and output (Korthikanti et al. 2022, section 4), normalised and rotated queries and
            keys.
        moved: by element-wise kernels, on every tensor rank: two norms, two residual additions.
        moved_split: shared out: biases, norms and rotation of queries and keys, the activation.
        routed: of routed experts, the activation's input and output, both kept and moved; shared
            out over the ranks that share an expert.
    """

    kept: int
    kept_split: int
    moved: int
    moved_split: int
    routed: int = 0


@cache
def layer_work(form: LayerForm, rotary: bool) -> LayerWork:
    """Of one layer; `rotary`: queries and keys are rotated."""
    qkv, heads = form.query + 2 * form.key, form.query + form.key
    changed = heads * (rotary + (form.qk_norm is not QkNorm.none))
    ends = form.halves + 1  # the activation's input and output
    routed = ends * form.top_k * form.expert_feed_forward if form.experts else 0
    inner = ends * form.inner - routed
    # In parallel attention and MLP normalise the same input.
    kept = 3 if form.residual is Residual.parallel else 4
    return LayerWork(
        kept=kept * form.hidden,
        kept_split=qkv + form.query + inner + changed,
        moved=11 * form.hidden,
        moved_split=2 * qkv * form.biases.of_qkv + 2 * changed + inner,
        routed=routed,
    )


# A search of layouts asks these for each of thousands.


@cache
def layer_numbers(form: LayerForm, cut: Cut = WHOLE) -> int:
    """Numbers of one layer on each rank."""
    return sum(each.numbers_on_rank(each.parts(cut)) for each in layer_held(form, cut))


@cache
def layer_matrix_numbers(form: LayerForm, cut: Cut = WHOLE) -> int:
    """Those of its matrices."""
    held = (each for each in layer_held(form, cut) if each.is_matrix)
    return sum(each.numbers_on_rank(each.parts(cut)) for each in held)


@cache
def expert_numbers(form: LayerForm, cut: Cut = WHOLE) -> int:
    """Those of its routed experts."""
    held = (each for each in layer_held(form, cut) if each.expert is not None)
    return sum(each.numbers_on_rank(each.parts(cut)) for each in held)


@cache
def expert_matrix_numbers(form: LayerForm, cut: Cut = WHOLE) -> int:
    """Those of their matrices."""
    matrices = sum(map(math.prod, expert_matrices(form, cut.expert_tensor)))
    return form.experts // cut.expert * matrices


@cache
def layer_matrices(form: LayerForm, tensor: int = 1) -> tuple[tuple[int, ...], ...]:
    """[outputs, inputs] on each of `tensor` ranks of the matrices that all tokens go through."""
    matrices = (each for each in layer_table(form) if each.is_matrix and each.expert is None)
    return tuple(each.shape_on_rank(tensor) for each in matrices)


@cache
def split_matrices(form: LayerForm, tensor: int = 1) -> tuple[tuple[int, ...], ...]:
    """Those of them that tensor ranks share: all but a router's."""
    matrices = (each for each in layer_table(form) if each.is_matrix and each.expert is None)
    return tuple(each.shape_on_rank(tensor) for each in matrices if each.split is not None)


@cache
def expert_matrices(form: LayerForm, expert_tensor: int = 1) -> tuple[tuple[int, ...], ...]:
    """[outputs, inputs] on each of `expert_tensor` ranks of one routed expert's matrices."""
    matrices = (each for each in layer_table(form) if each.is_matrix and each.expert == 0)
    return tuple(each.shape_on_rank(expert_tensor) for each in matrices)


@cache
def layer_multiplications(form: LayerForm) -> int:
    """Multiply-adds of one token in the matrices of a layer."""
    routed = form.top_k * sum(map(math.prod, expert_matrices(form)))
    return sum(map(math.prod, layer_matrices(form))) + routed


@cache
def embedding_table(vocab: int, context: int | None, hidden: int) -> tuple[Parameter, ...]:
    """Token embedding and, unless `context` is None, a learned vector for each position."""
    words = Parameter(name=WORDS, shape=(vocab, hidden), split=0, padded=True)
    if context is None:
        return (words,)
    return (words, Parameter(name=POSITIONS, shape=(context, hidden)))


@cache
def final_norm_table(hidden: int, norm: Norm) -> tuple[Parameter, ...]:
    """The norm between the last layer and the logits."""
    return _norm(FINAL_NORM, hidden, norm)


@cache
def output_table(vocab: int, hidden: int) -> tuple[Parameter, ...]:
    """The output layer of a model whose embedding is not tied to it."""
    return (Parameter(name=OUTPUT, shape=(vocab, hidden), split=0, padded=True),)


def padded_rows(vocab: int, tensor: int) -> int:
    """Rows of the vocabulary on all of `tensor` ranks together, equal on each of them."""
    multiple = math.lcm(VOCAB_MULTIPLE, tensor)
    return -(-vocab // multiple) * multiple


def _norm(name: str, width: int, norm: Norm) -> tuple[Parameter, ...]:
    kinds = ("weight", "bias") if norm.has_bias else ("weight",)
    return tuple(Parameter(name=f"{name}.{kind}", shape=(width,)) for kind in kinds)


def _qk_norms(form: LayerForm) -> tuple[Parameter, ...]:
    """RMSNorms of queries and keys: one weight for all heads, or those of each rank's own heads."""
    if form.qk_norm is QkNorm.none:
        return ()
    full = form.qk_norm is QkNorm.full
    widths = {"q": form.query, "k": form.key} if full else dict.fromkeys("qk", form.head_width)
    return tuple(
        Parameter(
            name=f"self_attention.{name}_layernorm.weight",
            shape=(width,),
            split=0 if full else None,
            summed=not full,
        )
        for name, width in widths.items()
    )


def _linear(
    name: str, outputs: int, inputs: int, *, split: int, bias: bool, blocks: int
) -> tuple[Parameter, ...]:
    """Split by outputs (0, Megatron's column-parallel), or by inputs (1, row-parallel), which adds
    its bias after the sum over ranks.
    """
    weight = Parameter(
        name=f"{name}.weight",
        shape=(outputs, inputs),
        split=split,
        blocks=blocks,
        to_residual=split == 1,
    )
    if not bias:
        return (weight,)
    by_outputs = split == 0
    return (
        weight,
        Parameter(
            name=f"{name}.bias",
            shape=(outputs,),
            split=0 if by_outputs else None,
            blocks=blocks,
        ),
    )
