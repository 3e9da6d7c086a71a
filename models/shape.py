"""The shape of a decoder: its sizes, what its layers consist of, and the parameters that follow."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, cast, get_args, get_type_hints

from configs.settings.network import (
    AttentionPattern,
    Biases,
    Mlp,
    ModelConfig,
    MoeConfig,
    Norm,
    Positions,
    QkNorm,
    Residual,
    RotaryConfig,
)
from models.layer_table import (
    WHOLE,
    Cut,
    LayerForm,
    LayerWork,
    Parameter,
    embedding_table,
    expert_numbers,
    final_norm_table,
    layer_multiplications,
    layer_numbers,
    layer_table,
    layer_work,
    output_table,
    padded_rows,
)

_IN_A_LAYER = re.compile(r"^decoder\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer; the fields are those of `ModelConfig`, with nulls resolved.

    Defaults are a GPT-3's.
    """

    layers: int
    hidden: int
    heads: int
    context: int
    vocab: int
    attention: AttentionPattern = AttentionPattern.alternating
    window: int = 256
    dense_every: int | None = None
    query_groups: int = 0  # 0: as many as heads
    head_width: int = 0  # 0: hidden / heads
    feed_forward: int = 0  # 0: 4 * hidden
    positions: Positions = Positions.learned
    rotary: RotaryConfig = field(default_factory=RotaryConfig)
    norm: Norm = Norm.layer
    norm_epsilon: float = 1e-5
    residual: Residual = Residual.pre_norm
    mlp: Mlp = Mlp.gelu
    moe: MoeConfig = field(default_factory=MoeConfig)
    biases: Biases = Biases.all
    qk_norm: QkNorm = QkNorm.none
    tied: bool = True
    logit_softcap: float | None = None

    def __post_init__(self) -> None:
        derived = {
            "query_groups": self.heads,
            "head_width": self.hidden // self.heads if self.heads else 0,
            "feed_forward": 4 * self.hidden,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, getattr(self, name) or value)

    @classmethod
    def of(cls, model: ModelConfig) -> ModelShape:
        """The shape of a model's settings."""
        given: dict[str, Any] = {each.name: getattr(model, each.name) for each in fields(cls)}
        return cls(**given | {name: given[name] or 0 for name in _DERIVED})

    def settings(self) -> dict[str, Any]:
        """The fields by name, which are also those of `ModelConfig`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def has_experts(self, layer: int) -> bool:
        """Whether layer number `layer` (from 0) has experts in place of its MLP."""
        return self.moe.experts > 0 and layer >= self.moe.dense_layers

    @property
    def expert_layers(self) -> range:
        """The layers (from 0) that have experts."""
        return range(self.moe.dense_layers, self.layers) if self.moe.experts else range(0)

    @property
    def expert_feed_forward(self) -> int:
        """Inner channels of one routed expert."""
        return self.moe.feed_forward or self.feed_forward

    def form(self, layer: int) -> LayerForm:
        """What determines the parameters of layer number `layer` (from 0)."""
        return _form(self, self.has_experts(layer))

    def forms(self, layers: Sequence[int]) -> Counter[LayerForm]:
        """How many of the layers, which are in order, have each form."""
        # Not one by one: of what is read from a file there may be any number.
        dense = bisect_left(layers, self.moe.dense_layers) if self.moe.experts else len(layers)
        kinds = {False: dense, True: len(layers) - dense}
        return Counter({_form(self, which): count for which, count in kinds.items() if count})

    @property
    def query(self) -> int:
        """Channels of all heads together."""
        return self.heads * self.head_width

    @property
    def key(self) -> int:
        """Channels of all query groups' keys together."""
        return self.query_groups * self.head_width

    @property
    def rotated_channels(self) -> int:
        """Channels of a head that are rotated, an even number; 0 without rotary positions."""
        if self.positions is not Positions.rotary:
            return 0
        return int(self.head_width * self.rotary.fraction) // 2 * 2

    def padded_vocab(self, tensor: int = 1) -> int:
        """Rows of the token embedding on all of `tensor` ranks together."""
        return padded_rows(self.vocab, tensor)

    def vocab_on_rank(self, tensor: int) -> int:
        """Rows of the token embedding on each of `tensor` ranks."""
        return self.padded_vocab(tensor) // tensor

    def is_banded(self, layer: int) -> bool:
        """Whether layer number `layer` (from 0) sees only a window. Alternating starts dense."""
        if self.attention is AttentionPattern.alternating:
            return layer % 2 == 1
        if self.attention is AttentionPattern.periodic:
            return (layer + 1) % (self.dense_every or 1) != 0
        return self.attention is AttentionPattern.banded

    def layer(self, number: int) -> tuple[Parameter, ...]:
        """The parameters of layer `number` (from 0), named within the layer."""
        return layer_table(self.form(number))

    def layers_on_rank(self, layers: Sequence[int], cut: Cut = WHOLE) -> int:
        """Numbers of the given layers on each rank."""
        forms = self.forms(layers)
        return sum(count * layer_numbers(form, cut) for form, count in forms.items())

    def experts_on_rank(self, layers: Sequence[int], cut: Cut) -> int:
        """Those of routed experts."""
        forms = self.forms(layers)
        return sum(count * expert_numbers(form, cut) for form, count in forms.items())

    def work(self, layer: int) -> LayerWork:
        """What a layer keeps and moves beside its matmuls."""
        return layer_work(self.form(layer), self.rotated_channels > 0)

    @property
    def embedding(self) -> tuple[Parameter, ...]:
        """What precedes the first layer: the embedding of tokens, and of learned positions."""
        learned = self.positions is Positions.learned
        return embedding_table(self.vocab, self.context if learned else None, self.hidden)

    @property
    def final_norm(self) -> tuple[Parameter, ...]:
        """The norm before the logits."""
        return final_norm_table(self.hidden, self.norm)

    @property
    def output(self) -> tuple[Parameter, ...]:
        """The output layer, if it is not the token embedding."""
        return () if self.tied else output_table(self.vocab, self.hidden)

    @property
    def outside_layers(self) -> tuple[Parameter, ...]:
        """The parameters of no layer, in order."""
        return (*self.embedding, *self.final_norm, *self.output)

    @property
    def embedding_parameters(self) -> int:
        """Token and position embeddings and an output layer of its own, without padding."""
        return sum(each.numbers for each in (*self.embedding, *self.output))

    @property
    def parameters(self) -> int:
        """The number of trainable elements without padding, as in the paper's Table D.1."""
        outside = sum(each.numbers for each in self.outside_layers)
        return self.layers_on_rank(range(self.layers)) + outside

    @property
    def active_parameters(self) -> int:
        """Those that one token is multiplied with: of the routed experts `top_k` in a layer."""
        if not self.moe.experts:
            return self.parameters
        expert = sum(each.numbers for each in self.layer(self.layers - 1) if each.expert == 0)
        idle = self.moe.experts - self.moe.top_k
        return self.parameters - len(self.expert_layers) * idle * expert

    def multiplications(self, layers: Sequence[int]) -> int:
        """Multiply-adds of one token in the matrices of the given layers."""
        forms = self.forms(layers)
        return sum(count * layer_multiplications(form) for form, count in forms.items())

    def parameter(self, name: str) -> Parameter:
        """The parameter with a global name, such as decoder.layers.3.mlp.linear_fc1.weight.

        Raises KeyError if the model has no such parameter.
        """
        match = _IN_A_LAYER.match(name)
        if match is None:
            return _by_name(self.outside_layers)[name]
        if int(match[1]) >= self.layers:
            raise KeyError(name)
        return _by_name(self.layer(int(match[1])))[name[match.end() :]]


def to_json(shape: ModelShape) -> dict[str, Any]:
    """The fields as JSON has them."""
    return asdict(shape)


def from_json(found: Mapping[str, Any]) -> ModelShape:
    """The shape that `to_json` took apart; fields that came later have their defaults.

    Raises ValueError, TypeError or KeyError if the fields are not a shape's.
    """
    shape = ModelShape(**_typed(ModelShape, found))
    for name in _SIZES:
        if getattr(shape, name) < 1:
            raise ValueError(f"model.{name} is {getattr(shape, name)!r}")
    return shape


def _typed(kind: type[Any], found: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    if unknown := sorted(found.keys() - hints.keys()):
        raise ValueError(f"model.{unknown[0]} is no setting of a model")
    return {name: _value(f"model.{name}", hints[name], value) for name, value in found.items()}


def _value(name: str, hint: Any, value: Any) -> Any:
    kinds = get_args(hint) or (hint,)
    for kind in kinds:
        if is_dataclass(kind) and isinstance(value, Mapping):
            return cast(Any, kind)(**_typed(cast(type[Any], kind), value))
        if isinstance(kind, type) and issubclass(kind, StrEnum) and isinstance(value, str):
            return kind(value)
        if type(value) is kind or (kind is float and type(value) is int):
            return kind(value) if kind is float else value
    raise ValueError(f"{name} is {value!r}")


_SIZES = (
    "layers",
    "hidden",
    "heads",
    "context",
    "vocab",
    "query_groups",
    "head_width",
    "feed_forward",
)
_DERIVED = ("query_groups", "head_width", "feed_forward")


@cache
def _by_name(table: tuple[Parameter, ...]) -> Mapping[str, Parameter]:
    return {each.name: each for each in table}


@cache
def _form(shape: ModelShape, experts: bool) -> LayerForm:
    moe = shape.moe
    return LayerForm(
        hidden=shape.hidden,
        query=shape.query,
        key=shape.key,
        head_width=shape.head_width,
        feed_forward=shape.feed_forward,
        norm=shape.norm,
        residual=shape.residual,
        mlp=shape.mlp,
        biases=shape.biases,
        qk_norm=shape.qk_norm,
        experts=moe.experts if experts else 0,
        top_k=moe.top_k if experts else 0,
        expert_feed_forward=shape.expert_feed_forward if experts else 0,
        shared=moe.shared if experts else 0,
    )
