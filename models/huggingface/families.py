"""The families that are read and written, each a table.

Keys, values and what is taken where a key is missing are those of transformers' classes.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from configs.errors import InputError
from configs.override import override
from configs.settings.network import (
    AttentionPattern,
    Biases,
    Mlp,
    Norm,
    Positions,
    QkNorm,
    Residual,
)
from configs.words import listed
from models.huggingface.experts import Experts
from models.huggingface.family import Family
from models.huggingface.keys import (
    CONFIG,
    Choice,
    Config,
    Constant,
    Context,
    LlamaBiases,
    Number,
    Size,
    fault,
)
from models.huggingface.rope import Rotary
from models.huggingface.same import value
from models.huggingface.tensors import Halves, Queries, Same, Source
from models.huggingface.windows import LAYERS, OneWindow, WindowByLayer, WindowIfUsed
from models.shape import ModelShape

_SIZES = (
    LAYERS,
    Size("hidden_size", "hidden"),
    Size("num_attention_heads", "heads", most=LAYERS.most),
    Size("intermediate_size", "feed_forward"),
    Size("vocab_size", "vocab"),
    Size("max_position_embeddings", "context"),
)
_GROUPS = Size(
    "num_key_value_heads", "query_groups", null=0, most=LAYERS.most
)  # 0: as many as heads
_GROUPS_OR_HEADS = replace(_GROUPS, missing=0)
_HEAD_WIDTH = Size("head_dim", "head_width", missing=0, null=0)  # 0: hidden / heads
_GATED = Choice(
    "hidden_act",
    "mlp",
    (
        ("silu", Mlp.swiglu),
        ("swish", Mlp.swiglu),
        ("gelu_pytorch_tanh", Mlp.geglu),
        ("gelu_new", Mlp.geglu),
        ("gelu_fast", Mlp.geglu),
    ),
    missing="silu",
)
_GELUS = (
    ("gelu_new", Mlp.gelu),
    ("gelu", Mlp.gelu_exact),
    ("gelu_pytorch_tanh", Mlp.gelu),
    ("gelu_fast", Mlp.gelu),
)
_TIED = ((True, True), (False, False))
_UNTIED_IF_MISSING = Choice("tie_word_embeddings", "tied", _TIED, missing=False)
_RMS_EPSILON = Number("rms_norm_eps", "norm_epsilon", 1e-6)
_OTHER_EPSILON = replace(_RMS_EPSILON, missing=1e-5)
_NO_ATTENTION_BIAS = Constant("attention_bias", (False,))
_LLAMA_LAYERS = {
    "positions": Positions.rotary,
    "norm": Norm.rms,
    "residual": Residual.pre_norm,
    "attention": AttentionPattern.dense,
    "window": 0,
    "biases": Biases.none,
}
_LLAMA_SOURCES: dict[str, Source] = {
    "input_layernorm": Same("input_layernorm"),
    "self_attention.linear_qkv": Queries(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    ),
    "self_attention.linear_proj": Same("self_attn.o_proj"),
    "pre_mlp_layernorm": Same("post_attention_layernorm"),
    "mlp.linear_fc1": Halves(("mlp.gate_proj", "mlp.up_proj")),
    "mlp.linear_fc2": Same("mlp.down_proj"),
}
_HEAD_NORMS: dict[str, Source] = {
    "self_attention.q_layernorm": Same("self_attn.q_norm"),
    "self_attention.k_layernorm": Same("self_attn.k_norm"),
}

LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    base="LlamaModel",
    parts=(
        *_SIZES,
        _GROUPS_OR_HEADS,
        _HEAD_WIDTH,
        _GATED,
        _RMS_EPSILON,
        _UNTIED_IF_MISSING,
        LlamaBiases(),
        Rotary(),
        Constant("rope_interleaved", (False,)),
    ),
    fixed=_LLAMA_LAYERS,
    prefix="model.",
    layer="layers.{}.",
    words="embed_tokens",
    norm="norm",
    sources=_LLAMA_SOURCES,
    buffers=r"\.rotary_emb\.inv_freq$",
)

_MISTRAL = (*_SIZES, replace(_GROUPS, missing=8), _HEAD_WIDTH, _GATED, _UNTIED_IF_MISSING)

MISTRAL = replace(
    LLAMA,
    model_type="mistral",
    architecture="MistralForCausalLM",
    base="MistralModel",
    divides=False,
    parts=(*_MISTRAL, _RMS_EPSILON, OneWindow(missing=4096), Rotary()),
)

_QWEN = (*_SIZES, _GROUPS, _GATED, _RMS_EPSILON, _UNTIED_IF_MISSING, WindowByLayer(), Rotary())

QWEN2 = replace(
    LLAMA,
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    base="Qwen2Model",
    divides=False,
    parts=(*_QWEN, _HEAD_WIDTH),
    fixed={**_LLAMA_LAYERS, "biases": Biases.qkv},
)

QWEN3 = replace(
    LLAMA,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    base="Qwen3Model",
    divides=False,
    parts=(*_QWEN, Size("head_dim", "head_width", missing=128), _NO_ATTENTION_BIAS),
    fixed={**_LLAMA_LAYERS, "qk_norm": QkNorm.head},
    sources={**_LLAMA_SOURCES, **_HEAD_NORMS},
)

_OLMO = (
    *(*_SIZES, _GROUPS_OR_HEADS, _GATED, _OTHER_EPSILON),
    *(_UNTIED_IF_MISSING, _NO_ATTENTION_BIAS, Rotary()),
)

OLMO2 = replace(
    LLAMA,
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    base="Olmo2Model",
    divides=False,
    parts=_OLMO,
    fixed={**_LLAMA_LAYERS, "residual": Residual.post_norm, "qk_norm": QkNorm.full},
    sources={
        **_LLAMA_SOURCES,
        **_HEAD_NORMS,
        "self_attention.linear_proj.norm": Same("post_attention_layernorm"),
        "mlp.linear_fc2.norm": Same("post_feedforward_layernorm"),
    },
)

_EXPERTS: dict[str, Source] = {
    "mlp.router": Same("mlp.gate"),
    "mlp.experts.{}.linear_fc1": Halves(("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj")),
    "mlp.experts.{}.linear_fc2": Same("mlp.experts.{}.down_proj"),
}

MIXTRAL = replace(
    MISTRAL,
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    base="MixtralModel",
    parts=(
        *_MISTRAL,
        _OTHER_EPSILON,
        OneWindow(missing=0),
        Rotary(base=1e6),
        Experts("num_local_experts", missing=8, top_k=2, balance=0.001),
    ),
    sources={
        **_LLAMA_SOURCES,
        "mlp.router": Same("block_sparse_moe.gate"),
        "mlp.experts.{}.linear_fc1": Halves(
            ("block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3")
        ),
        "mlp.experts.{}.linear_fc2": Same("block_sparse_moe.experts.{}.w2"),
    },
)

QWEN3_MOE = replace(
    QWEN3,
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    base="Qwen3MoeModel",
    parts=(
        *_SIZES,
        replace(_GROUPS, missing=4),
        _HEAD_WIDTH,
        _GATED,
        _RMS_EPSILON,
        _UNTIED_IF_MISSING,
        WindowIfUsed(),
        Rotary(),
        _NO_ATTENTION_BIAS,
        Experts(
            "num_experts",
            missing=128,
            top_k=8,
            balance=0.001,
            width="moe_intermediate_size",
            missing_width=768,
            renormalise=True,
            dense=True,
        ),
        Constant("decoder_sparse_step", (1,)),
    ),
    sources={**_LLAMA_SOURCES, **_HEAD_NORMS, **_EXPERTS},
)

OLMOE = replace(
    LLAMA,
    model_type="olmoe",
    architecture="OlmoeForCausalLM",
    base="OlmoeModel",
    parts=(
        *_OLMO,
        Constant("clip_qkv", (None,)),
        Experts("num_experts", missing=64, top_k=8, balance=0.01, renormalise=True),
    ),
    fixed={**_LLAMA_LAYERS, "qk_norm": QkNorm.full},
    sources={**_LLAMA_SOURCES, **_HEAD_NORMS, **_EXPERTS},
)

GPT_NEOX = Family(
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    base="GPTNeoXModel",
    parts=(
        *_SIZES,
        Choice("hidden_act", "mlp", _GELUS, missing="gelu"),
        Number("layer_norm_eps", "norm_epsilon", 1e-5),
        _UNTIED_IF_MISSING,
        Choice(
            "use_parallel_residual",
            "residual",
            ((True, Residual.parallel), (False, Residual.pre_norm)),
            missing=True,
        ),
        Rotary(theta="rotary_emb_base", fraction="rotary_pct", partial=0.25),
        Constant("attention_bias", (True,)),
        Constant("is_decoder", (False, True)),
    ),
    fixed={
        "positions": Positions.rotary,
        "norm": Norm.layer,
        "attention": AttentionPattern.dense,
        "window": 0,
        "biases": Biases.all,
    },
    prefix="gpt_neox.",
    layer="layers.{}.",
    words="embed_in",
    norm="final_layer_norm",
    output="embed_out",
    sources={
        "input_layernorm": Same("input_layernorm"),
        "self_attention.linear_qkv": Same("attention.query_key_value"),
        "self_attention.linear_proj": Same("attention.dense"),
        "pre_mlp_layernorm": Same("post_attention_layernorm"),
        "mlp.linear_fc1": Same("mlp.dense_h_to_4h"),
        "mlp.linear_fc2": Same("mlp.dense_4h_to_h"),
    },
    buffers=r"\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$",
)

_QKV = "attn.c_attn"

GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    base="GPT2Model",
    parts=(
        Size("n_layer", "layers", most=LAYERS.most),
        Size("n_embd", "hidden"),
        Size("n_head", "heads", most=LAYERS.most),
        Size("n_inner", "feed_forward", missing=0, null=0),  # 0: four times hidden
        Size("vocab_size", "vocab"),
        Context(),
        Choice("activation_function", "mlp", _GELUS, missing="gelu_new"),
        Number("layer_norm_epsilon", "norm_epsilon", 1e-5),
        Choice("tie_word_embeddings", "tied", _TIED, missing=True),
        Constant("scale_attn_weights", (True,)),
        Constant("scale_attn_by_inverse_layer_idx", (False,)),
        Constant("add_cross_attention", (False,)),
    ),
    fixed={
        "positions": Positions.learned,
        "norm": Norm.layer,
        "residual": Residual.pre_norm,
        "attention": AttentionPattern.dense,
        "window": 0,
        "biases": Biases.all,
    },
    # The last only changes rounding in half precision.
    ignored=frozenset(
        {
            *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
            *("summary_first_dropout", "reorder_and_upcast_attn"),
        }
    ),
    prefix="transformer.",
    layer="h.{}.",
    words="wte",
    positions="wpe",
    norm="ln_f",
    sources={
        "input_layernorm": Same("ln_1"),
        "self_attention.linear_qkv": Queries((_QKV, _QKV, _QKV)),
        "self_attention.linear_proj": Same("attn.c_proj"),
        "pre_mlp_layernorm": Same("ln_2"),
        "mlp.linear_fc1": Same("mlp.c_fc"),
        "mlp.linear_fc2": Same("mlp.c_proj"),
    },
    buffers=r"\.attn\.(masked_)?bias$",
    transposed=True,
)

FAMILIES = (
    *(GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, GPT_NEOX, OLMO2),
    *(MIXTRAL, QWEN3_MOE, OLMOE),
)
"""The first that can say a shape is the one it is written as."""


def named(model_type: str) -> Family:
    """The family with this model_type. Raises InputError, which does not name the setting."""
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    known = [family.model_type for family in FAMILIES]
    near = difflib.get_close_matches(str(model_type), known, n=1, cutoff=0.6)
    raise InputError(f"is not supported; nearest: {listed(near or known, most=len(known))}")


def family_of(config: Config) -> Family:
    """The family of a config.json. Raises InputError if it is not supported."""
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"{CONFIG}: model_type is missing")
    try:
        return named(config["model_type"])
    except InputError as error:
        raise fault("model_type", config["model_type"], str(error)) from None


def family_for(shape: ModelShape, asked: str | None = None) -> Family:
    """The family that a shape is written as: that asked for, or the first that can say it.

    Raises InputError naming what is lost by the nearest, if none can.
    """
    families = FAMILIES if asked is None else (named(asked),)
    lost = {family.model_type: family.lost(shape) for family in families}
    for family in families:
        if not lost[family.model_type]:
            return family
    # What has no experts, or has them where the shape does not, is the farthest.
    nearest = min(
        (family.model_type for family in families),
        key=lambda name: ("moe.experts" in lost[name], len(lost[name])),
    )
    values = [override(f"model.{name}", value(shape, name)) for name in lost[nearest]]
    said = listed(values) if values else "the sizes"
    kind = "the nearest of Hugging Face's families" if asked is None else "the family asked for"
    raise InputError(f"{said}: not what a {nearest} can be, {kind}")
