"""Converts between a GPT-3 with dense attention and Hugging Face's GPT-2, which are equivalent.

GPT-2 stores matrices as [inputs, outputs] and the columns of q, k and v in three blocks; here they
are [outputs, inputs], with q, k and v of each head together. Weights are unsharded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from configs.errors import InputError
from configs.network import AttentionPattern
from models.shape import ModelShape

NORM_EPSILON = 1e-5
PREFIX = "transformer."
_TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")

_OUTSIDE = {
    "embedding.word_embeddings.weight": "wte.weight",
    "embedding.position_embeddings.weight": "wpe.weight",
    "decoder.final_layernorm.weight": "ln_f.weight",
    "decoder.final_layernorm.bias": "ln_f.bias",
}
_IN_LAYER = {
    "input_layernorm": "ln_1",
    "self_attention.linear_qkv": "attn.c_attn",
    "self_attention.linear_proj": "attn.c_proj",
    "pre_mlp_layernorm": "ln_2",
    "mlp.linear_fc1": "mlp.c_fc",
    "mlp.linear_fc2": "mlp.c_proj",
}


_SIZES = ("layers", "hidden", "heads", "context", "vocab", "window", "attention")
"""The fields of a shape that GPT-2 has; any other has to be as it was before there was a choice."""


def require_gpt2(shape: ModelShape) -> None:
    """Raises InputError if the model has layers that GPT-2 lacks."""
    banded = any(shape.is_banded(layer) for layer in range(shape.layers))
    if banded and shape.window < shape.context:
        raise InputError(
            f"model.attention={shape.attention}: banded layers see {shape.window} of "
            f"{shape.context} tokens and have no GPT-2 equivalent, whose layers see all; "
            "nearest: a model trained with model.attention=dense"
        )
    plain = ModelShape(**{name: getattr(shape, name) for name in _SIZES})
    for field in fields(shape):
        value = getattr(shape, field.name)
        if value != getattr(plain, field.name):
            raise InputError(f"model.{field.name}={value}: has no GPT-2 equivalent")


def to_gpt2(weights: Mapping[str, Tensor], shape: ModelShape) -> dict[str, Tensor]:
    """Our weights in Hugging Face's format, without the vocabulary's padding.

    Raises InputError if the model is not a GPT-2.
    """
    require_gpt2(shape)
    theirs = {}
    for ours, name in _names(shape).items():
        weight = weights[ours]
        if name == "wte.weight":
            weight = weight[: shape.vocab]
        if "linear_qkv" in ours:
            weight = _blocks_from_heads(weight, shape)
        if "linear_" in ours and weight.dim() == 2:
            weight = weight.t()
        # A copy, since safetensors does not write views.
        theirs[PREFIX + name] = weight.clone(memory_format=torch.contiguous_format)
    return theirs


def from_gpt2(weights: Mapping[str, Tensor], shape: ModelShape) -> dict[str, Tensor]:
    """Hugging Face's weights, with or without a `transformer.` prefix, as ours in float32.

    Raises InputError if one is missing or has another shape.
    """
    ours = {}
    for name, theirs in _names(shape).items():
        weight = weights.get(PREFIX + theirs, weights.get(theirs))
        if weight is None:
            raise InputError(f"{theirs}: is not among the weights")
        weight = weight.float()
        if "linear_" in name and weight.dim() == 2:
            weight = weight.t()
        if "linear_qkv" in name:
            weight = _heads_from_blocks(weight, shape)
        if theirs == "wte.weight":
            weight = weight[: shape.vocab]
        expected = shape.parameter(name).shape
        if tuple(weight.shape) != expected:
            raise InputError(f"{theirs}: gives {tuple(weight.shape)}, the model has {expected}")
        ours[name] = weight.contiguous()
    return ours


def gpt2_config(shape: ModelShape, dtype: str, end_of_text: int | None) -> dict[str, Any]:
    """The contents of `config.json`. Raises InputError if the model is not a GPT-2."""
    require_gpt2(shape)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": shape.vocab,
        "n_positions": shape.context,
        "n_embd": shape.hidden,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": NORM_EPSILON,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "initializer_range": 0.02,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "dtype": dtype,
    }


def shape_of_gpt2(config: Mapping[str, Any]) -> ModelShape:
    """The shape in a `config.json`. Raises InputError naming what our GPT-2 does not support."""
    width = config.get("n_embd", 768)
    faults = [
        f"{key}={config.get(key, default)!r}, not {' or '.join(map(repr, allowed))}"
        for key, default, allowed in (
            ("model_type", None, ("gpt2",)),
            ("activation_function", "gelu_new", _TANH_GELUS),
            ("layer_norm_epsilon", NORM_EPSILON, (NORM_EPSILON,)),
            ("scale_attn_weights", True, (True,)),
            ("scale_attn_by_inverse_layer_idx", False, (False,)),
            ("add_cross_attention", False, (False,)),
            ("tie_word_embeddings", True, (True,)),
            ("n_inner", None, (None, 4 * width if type(width) is int else None)),
        )
        if config.get(key, default) not in allowed
    ]
    if faults:
        raise InputError(f"config.json: another model than ours: {'; '.join(faults)}")
    context = _size(config, "n_positions" if config.get("n_positions") else "n_ctx")
    return ModelShape(
        layers=_size(config, "n_layer"),
        hidden=_size(config, "n_embd"),
        heads=_size(config, "n_head"),
        context=context,
        vocab=_size(config, "vocab_size"),
        attention=AttentionPattern.dense,
        window=context,
    )


def _size(config: Mapping[str, Any], key: str) -> int:
    if key not in config:
        raise InputError(f"config.json: {key} is missing")
    size = config[key]
    if type(size) is not int or size < 1:
        raise InputError(f"config.json: {key}={size!r} is no size")
    return size


def _names(shape: ModelShape) -> dict[str, str]:
    """Our name -> theirs, for every parameter."""
    names = dict(_OUTSIDE)
    for layer in range(shape.layers):
        for ours, theirs in _IN_LAYER.items():
            for kind in ("weight", "bias"):
                names[f"decoder.layers.{layer}.{ours}.{kind}"] = f"h.{layer}.{theirs}.{kind}"
    return names


def _blocks_from_heads(weight: Tensor, shape: ModelShape) -> Tensor:
    """[heads x (q, k, v) x width, ...] -> [(q, k, v) x heads x width, ...]"""
    parts = weight.view(shape.heads, 3, shape.head_width, *weight.shape[1:])
    return parts.transpose(0, 1).reshape(weight.shape)


def _heads_from_blocks(weight: Tensor, shape: ModelShape) -> Tensor:
    if weight.shape[0] != 3 * shape.hidden:
        return weight  # its shape is reported as wrong
    parts = weight.reshape(3, shape.heads, shape.head_width, *weight.shape[1:])
    return parts.transpose(0, 1).reshape(weight.shape)
