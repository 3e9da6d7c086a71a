"""Megatron-core layer specs of a GPT-3: one per layer, since dense and banded layers alternate.

Two implementations of the same network with the same parameters: Megatron-core's tensor-parallel
linears with torch's LayerNorm and our attention, or Transformer Engine's if it is installed.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules

from models.layer_table import NORM_EPSILON
from models.ops.linear import ColumnLinear, RowLinear
from models.shape import ModelShape
from models.training.attention import BandedAttention, DenseAttention


class LayerNorm(torch.nn.LayerNorm):
    """torch's LayerNorm, applicable to a slice of the sequence.

    With sequence parallelism each rank normalises its own tokens, so the weights' gradients must be
    summed over the tensor group; Megatron does so for parameters marked `sequence_parallel`.
    """

    def __init__(
        self, config: Any, hidden_size: int, eps: float = NORM_EPSILON, **_megatron: Any
    ) -> None:
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]


def block_spec(
    shape: ModelShape, layers: list[int], *, transformer_engine: bool
) -> TransformerBlockSubmodules:
    """The spec of the given layers (global numbers, from 0) of one stage or chunk."""
    make = _engine_layer if transformer_engine else _local_layer
    norm = None if transformer_engine else LayerNorm
    return TransformerBlockSubmodules(
        layer_specs=[make(shape, layer) for layer in layers], layer_norm=norm or _engine_norm()
    )


def _local_layer(shape: ModelShape, layer: int) -> ModuleSpec:
    spec = get_gpt_layer_local_spec()
    banded = partial(BandedAttention, window=shape.window)
    attention = spec.submodules.self_attention.submodules
    attention.core_attention = banded if shape.is_banded(layer) else DenseAttention
    attention.linear_qkv, attention.linear_proj = ColumnLinear, RowLinear
    mlp = spec.submodules.mlp.submodules
    mlp.linear_fc1, mlp.linear_fc2 = ColumnLinear, RowLinear
    spec.submodules.input_layernorm = LayerNorm
    spec.submodules.pre_mlp_layernorm = LayerNorm
    # Megatron would save the norms under Transformer Engine's names; ours are the layer's own.
    spec.submodules.sharded_state_dict_keys_map = {}
    return spec


def _engine_layer(shape: ModelShape, layer: int) -> ModuleSpec:
    # Transformer Engine reads the window from the config it is given.
    spec = copy.deepcopy(get_gpt_layer_with_transformer_engine_spec())
    attention = spec.submodules.self_attention.submodules
    window = (shape.window - 1, 0) if shape.is_banded(layer) else None
    attention.core_attention = partial(_engine_attention, attention.core_attention, window)
    return spec


def _engine_attention(
    kind: Any, window: tuple[int, int] | None, *, config: Any, **rest: Any
) -> Any:
    config = copy.copy(config)
    config.window_size = window
    config.window_attn_skip_freq = None
    return kind(config=config, **rest)


def _engine_norm() -> Any:
    from megatron.core.extensions.transformer_engine import TENorm

    return TENorm
