"""A decoder as a list of layers, each taking the previous one's output.

The same parts, from the same specs and with the same names, as `models.training.gpt` combines into
one module, for schedules that distribute layers themselves. Shape suffixes: B batch, T tokens (on
this rank, with sequence parallelism), H hidden, V vocabulary on this rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from megatron.core import parallel_state, tensor_parallel
from megatron.core.fusions.fused_cross_entropy import fused_vocab_parallel_cross_entropy
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.transformer_layer import get_transformer_layer_offset
from torch import Tensor, nn

from configs.settings.network import Positions
from models.ops.cross_entropy import cross_entropy
from models.ops.linear import host_linear, on_host
from models.ops.padding import mask_padding
from models.ops.softcap import capped
from models.shape import ModelShape
from models.training.attention import positions_of
from models.training.context.split import Split
from models.training.layer_specs import block_spec

LAYER = "Layer"
"""The name of the class of every transformer layer, by which a schedule can count them."""


class CurrentDocuments:
    """Where the documents of a stage's micro-batch begin, as attention takes it.

    Stages send each other hidden states only. So each is told this before its forward pass, by
    `config.documents`; what a layer recomputes later has what it had then.
    """

    def __init__(self) -> None:
        self.coming: Iterator[Tensor] = iter(())
        self.starts_BT: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """An entry of the list: its builder, and the prefix of its parameters' global names."""

    prefix: str
    kind: type[nn.Module]
    arguments: tuple[Any, ...]
    logits: bool = False  # the tied embedding's second use


def layer_list(
    shape: ModelShape, config: TransformerConfig, *, transformer_engine: bool
) -> list[LayerEntry]:
    """All layers of the network in order; nothing is built yet.

    Args:
        config: Megatron-core's, with the split of each layer over tensor ranks.
    """
    spec = block_spec(shape, list(range(shape.layers)), transformer_engine=transformer_engine)
    words = (shape, config)
    output = LayerEntry("embedding", WordEmbedding, words, logits=True)
    return [
        LayerEntry("embedding", WordEmbedding, words),
        LayerEntry("embedding", PositionEmbedding, (shape, config)),
        *(
            LayerEntry(
                f"decoder.layers.{number}",
                layer_class(layer.module),
                (config, layer.submodules, number),
            )
            for number, layer in enumerate(spec.layer_specs)
        ),
        LayerEntry("decoder", FinalNorm, (config, spec.layer_norm)),
        output if shape.tied else LayerEntry("", Output, (shape, config)),
    ]


class WordEmbedding(nn.Module):
    """Maps tokens to vectors at the beginning and vectors to logits at the end, by one weight."""

    def __init__(self, shape: ModelShape, config: TransformerConfig) -> None:
        super().__init__()
        group = parallel_state.get_tensor_model_parallel_group()
        self.word_embeddings = tensor_parallel.VocabParallelEmbedding(
            shape.padded_vocab(config.tensor_model_parallel_size),
            shape.hidden,
            init_method=config.init_method,
            reduce_scatter_embeddings=_scatters_at_once(shape, config),
            config=config,
            tp_group=group,
        )
        self.output_layer = _output_layer(shape, config, group, tied=True)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Vectors [B, T, H] of all tokens; if split at once, [T, B, H] of this rank's tokens."""
        return self.word_embeddings(tokens_BT)

    def logits(self, hidden_TBH: Tensor) -> Tensor:
        """Logits [T, B, V] of all tokens, also with sequence parallelism."""
        logits, _ = self.output_layer(hidden_TBH, weight=self.word_embeddings.weight)
        return logits


def _scatters_at_once(shape: ModelShape, config: TransformerConfig) -> bool:
    """Whether the sequence is split while words are embedded, as Megatron-core's embedding does."""
    return bool(config.sequence_parallel) and shape.positions is not Positions.learned


class Output(nn.Module):
    """Maps vectors to logits by a weight of its own."""

    def __init__(self, shape: ModelShape, config: TransformerConfig) -> None:
        super().__init__()
        group = parallel_state.get_tensor_model_parallel_group()
        self.output_layer = _output_layer(shape, config, group, tied=False)

    def forward(self, hidden_TBH: Tensor) -> Tensor:
        """Logits [T, B, V] of all tokens, also with sequence parallelism."""
        return self.output_layer(hidden_TBH)[0]


def _output_layer(shape: ModelShape, config: TransformerConfig, group: Any, *, tied: bool) -> Any:
    layer = tensor_parallel.ColumnParallelLinear(
        shape.hidden,
        shape.padded_vocab(config.tensor_model_parallel_size),
        config=config,
        init_method=config.init_method,
        bias=False,
        skip_weight_param_allocation=tied,
        tp_group=group,
    )
    if on_host(config):
        layer._forward_impl = host_linear
    return layer


class PositionEmbedding(nn.Module):
    """Adds learned positions, where there are any; splits the sequence for sequence parallelism."""

    def __init__(self, shape: ModelShape, config: TransformerConfig) -> None:
        super().__init__()
        self.position_embeddings = None
        if shape.positions is Positions.learned:
            self.position_embeddings = nn.Embedding(
                shape.context, shape.hidden, dtype=config.params_dtype
            )
        self.config = config
        self.sequence_parallel = config.sequence_parallel
        self.split_before = _scatters_at_once(shape, config)

    def forward(self, words_BTH: Tensor) -> Tensor:
        """Hidden states [T, B, H]; with sequence parallelism this rank's part of T."""
        if self.split_before:
            return words_BTH
        hidden = words_BTH
        if self.position_embeddings is not None:
            hidden = words_BTH + self.position_embeddings(self._positions(words_BTH))
        hidden_TBH = hidden.transpose(0, 1).contiguous()
        if not self.sequence_parallel:
            return hidden_TBH
        # The slice is a view that would keep the full sequence in memory.
        return tensor_parallel.scatter_to_sequence_parallel_region(hidden_TBH).clone()

    def _positions(self, words_BTH: Tensor) -> Tensor:
        starts, split, device = self.config.documents.starts_BT, Split.here(), words_BTH.device
        if starts is None or not self.config.restart_positions:
            return split.positions(words_BTH.shape[1], device)
        return positions_of(starts, split).to(device, torch.long, non_blocking=True)


class _Alone:
    """A transformer layer with only hidden states [T, B, H] as input and output."""

    def __init__(self, config: Any, submodules: Any, number: int) -> None:
        # Megatron adds its own count of layers on earlier stages.
        first = number + 1 - get_transformer_layer_offset(config)
        super().__init__(config, submodules, layer_number=first)  # type: ignore[call-arg]
        assert self.layer_number == number + 1  # type: ignore[attr-defined]

    def forward(self: Any, hidden_TBH: Tensor) -> Tensor:
        """[T, B, H] to [T, B, H]; under full recomputation keeps only its input."""
        once = partial(self._once, self.config.documents.starts_BT)
        if self.config.recompute_granularity == "full" and self.training:
            recomputed: Tensor = tensor_parallel.checkpoint(once, False, hidden_TBH)
            return recomputed
        out: Tensor = once(hidden_TBH)
        return out

    def _once(self, starts_BT: Tensor | None, hidden_TBH: Tensor) -> Tensor:
        hidden_TBH, _ = super().forward(hidden_TBH, attention_mask=starts_BT)  # type: ignore[misc]
        return hidden_TBH


@cache
def layer_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The class `Layer` of an entry that is a layer of this kind."""
    return type(LAYER, (_Alone, kind), {})


class FinalNorm(nn.Module):
    """The layer norm after the last layer."""

    def __init__(self, config: TransformerConfig, norm: Any) -> None:
        super().__init__()
        self.final_layernorm = norm(config, config.hidden_size, config.layernorm_epsilon)

    def forward(self, hidden_TBH: Tensor) -> Tensor:
        """[T, B, H] to [T, B, H]."""
        return self.final_layernorm(hidden_TBH)


def mean_loss(
    logits_TBV: Tensor, labels_BT: Tensor, *, config: TransformerConfig, shape: ModelShape
) -> Tensor:
    """Mean cross entropy over tokens, in nats, float32; padding of the vocabulary left out."""
    group = parallel_state.get_tensor_model_parallel_group()
    logits_TBV = capped(logits_TBV, shape.logit_softcap)
    mask_padding(logits_TBV, shape.vocab, group.rank())
    labels_TB = labels_BT.transpose(0, 1).contiguous()
    if config.on_cpu:
        return cross_entropy(logits_TBV, labels_TB, group).mean()
    if config.cross_entropy_loss_fusion:
        return fused_vocab_parallel_cross_entropy(logits_TBV, labels_TB, group).float().mean()
    return tensor_parallel.vocab_parallel_cross_entropy(logits_TBV, labels_TB).float().mean()
