"""Megatron-core layer specs of a decoder: one per layer, since dense and banded layers alternate.

Two implementations of the same network with the same parameters: Megatron-core's tensor-parallel
linears with our norms and attention, or Transformer Engine's if it is installed.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules

from configs.settings.network import QkNorm, Residual
from models.ops.linear import ColumnLinear, RowLinear
from models.shape import ModelShape
from models.training.attention import BandedAttention, DenseAttention, RotatedAttention
from models.training.experts import experts_spec
from models.training.mlp import Activation
from models.training.norms import AllHeadsNorm, RMSNorm, norm_of, normed_linear
from models.training.parallel_layer import ParallelLayer


def block_spec(
    shape: ModelShape, layers: list[int], *, transformer_engine: bool
) -> TransformerBlockSubmodules:
    """The spec of the given layers (global numbers, from 0) of one stage or chunk."""
    make = _engine_layer if transformer_engine else _local_layer
    norm = _engine_norm() if transformer_engine else norm_of(shape.norm)
    return TransformerBlockSubmodules(
        layer_specs=[make(shape, layer) for layer in layers], layer_norm=norm
    )


def _local_layer(shape: ModelShape, layer: int) -> ModuleSpec:
    spec = get_gpt_layer_local_spec()
    attention = spec.submodules.self_attention.submodules
    attention.core_attention = _own_attention(shape, layer)
    attention.linear_qkv, attention.linear_proj = ColumnLinear, RowLinear
    activation = ModuleSpec(module=Activation, params={"kind": shape.mlp})
    if shape.has_experts(layer):
        spec.submodules.mlp = experts_spec(
            shape, layer, activation=activation, transformer_engine=False
        )
    else:
        mlp = spec.submodules.mlp.submodules
        mlp.linear_fc1, mlp.linear_fc2 = ColumnLinear, RowLinear
        mlp.activation_func = activation
    norm = norm_of(shape.norm)
    spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = norm
    attention.q_layernorm, attention.k_layernorm = _qk_norms(shape)
    _connect(spec, shape, RowLinear, norm)
    # Megatron would save the norms under Transformer Engine's names; ours are the layer's own.
    spec.submodules.sharded_state_dict_keys_map = {}
    return spec


def _engine_layer(shape: ModelShape, layer: int) -> ModuleSpec:
    # Transformer Engine reads the window from the config it is given.
    spec = copy.deepcopy(get_gpt_layer_with_transformer_engine_spec())
    attention, mlp = (
        getattr(spec.submodules, name).submodules for name in ("self_attention", "mlp")
    )
    if shape.has_experts(layer):
        spec.submodules.mlp = experts_spec(shape, layer, activation=None, transformer_engine=True)
        # Its norm was part of the linear that the experts replace.
        spec.submodules.pre_mlp_layernorm = _engine_norm()
    window = (shape.window - 1, 0) if shape.is_banded(layer) else None
    attention.core_attention = partial(
        _engine_attention, attention.core_attention, window, shape, _own_attention(shape, layer)
    )
    attention.q_layernorm, attention.k_layernorm = _qk_norms(shape)
    if shape.residual is Residual.post_norm:  # no norm precedes a linear that it could be part of
        from megatron.core.extensions.transformer_engine import TEColumnParallelLinear

        attention.linear_qkv = mlp.linear_fc1 = TEColumnParallelLinear
    _connect(spec, shape, attention.linear_proj, _engine_norm())
    return spec


def _connect(spec: ModuleSpec, shape: ModelShape, row_linear: Any, norm: Any) -> None:
    """Lets attention and MLP read and write the residual stream in the model's order."""
    if shape.residual is Residual.parallel:
        spec.module = ParallelLayer
    if shape.residual is Residual.post_norm:
        spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = IdentityOp
        normed = normed_linear(row_linear, norm)
        spec.submodules.self_attention.submodules.linear_proj = normed
        spec.submodules.mlp.submodules.linear_fc2 = normed


def _qk_norms(shape: ModelShape) -> tuple[Any, Any]:
    # Ours in both: Transformer Engine's would be a LayerNorm where those of hidden states are.
    if shape.qk_norm is QkNorm.none:
        return IdentityOp, IdentityOp
    if shape.qk_norm is QkNorm.head:
        return RMSNorm, RMSNorm
    query, key = (
        ModuleSpec(module=AllHeadsNorm, params={"width": width})
        for width in (shape.query, shape.key)
    )
    return query, key


def _own_attention(shape: ModelShape, layer: int) -> Any:
    return partial(BandedAttention if shape.is_banded(layer) else DenseAttention, shape=shape)


def _engine_attention(
    kind: Any,
    window: tuple[int, int] | None,
    shape: ModelShape,
    own: Any,
    *,
    config: Any,
    **rest: Any,
) -> Any:
    if config.context_parallel_size > 1:  # sequences are split as ours has it
        return own(config=config, **rest)
    config = copy.copy(config)
    config.window_size = window
    config.window_attn_skip_freq = None
    attention = kind(config=config, **rest)
    return RotatedAttention(attention, shape) if shape.rotated_channels else attention


def _engine_norm() -> Any:
    from megatron.core.extensions.transformer_engine import TENorm

    return TENorm
