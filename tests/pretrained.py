"""Tiny models of every family, as transformers itself writes them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "vocab_size": 130,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 129,
    "pad_token_id": None,
}
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
NEOX: dict[str, Any] = {key: SIZES[key] for key in SIZES if key != "num_key_value_heads"}
GPT2: dict[str, Any] = {
    "vocab_size": 130,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 129,
    "eos_token_id": 129,
}
EXPERTS: dict[str, Any] = {**SIZES, "num_experts": 6, "num_experts_per_tok": 2}
QWEN3_LAYERS = ["full_attention", "sliding_attention"]

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT2),
    "gpt2-untied": ("gpt2", {**GPT2, "tie_word_embeddings": False, "n_inner": 40}),
    "llama2": ("llama", {**SIZES, "num_key_value_heads": 4}),
    "llama3": ("llama", {**SIZES, "rope_parameters": LLAMA3}),
    "llama3-tied": ("llama", {**SIZES, "head_dim": 16, "tie_word_embeddings": True}),
    "llama-biases": ("llama", {**SIZES, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {**SIZES, "sliding_window": 5}),
    "mistral-dense": ("mistral", {**SIZES, "sliding_window": None}),
    "qwen2": ("qwen2", {**SIZES, "rope_parameters": YARN}),
    "qwen3": ("qwen3", {**SIZES, "head_dim": 16, "tie_word_embeddings": True}),
    "qwen3-windows": (
        "qwen3",
        {**SIZES, "use_sliding_window": True, "sliding_window": 6, "layer_types": QWEN3_LAYERS},
    ),
    "neox": ("gpt_neox", {**NEOX, "rope_parameters": {"rope_theta": 1e4}}),
    "neox-sequential": ("gpt_neox", {**NEOX, "use_parallel_residual": False}),
    "olmo2": ("olmo2", SIZES),
    "mixtral": ("mixtral", {**SIZES, "num_local_experts": 4, "sliding_window": 5}),
    "mixtral-one": ("mixtral", {**SIZES, "num_local_experts": 3, "num_experts_per_tok": 1}),
    "qwen3_moe": (
        "qwen3_moe",
        {**EXPERTS, "head_dim": 16, "moe_intermediate_size": 20, "norm_topk_prob": True},
    ),
    "qwen3_moe-dense-first": (
        "qwen3_moe",
        {**EXPERTS, "moe_intermediate_size": 20, "mlp_only_layers": [0], "rope_parameters": YARN},
    ),
    "qwen3_moe-one": (
        "qwen3_moe",
        {**EXPERTS, "moe_intermediate_size": 20, "num_experts_per_tok": 1, "norm_topk_prob": True},
    ),
    "qwen3_moe-windows": (
        "qwen3_moe",
        {**EXPERTS, "moe_intermediate_size": 20, "use_sliding_window": True, "sliding_window": 6},
    ),
    "olmoe": ("olmoe", EXPERTS),
    "olmoe-renormalised": ("olmoe", {**EXPERTS, "norm_topk_prob": True, "num_experts_per_tok": 4}),
}
"""A model_type, and what its configuration is made with."""

LENGTHS = (1, 7, 40)


def write(folder: Path, case: str, **more: Any) -> Any:
    """Writes a model with random weights, norms and biases, configured by `more` too."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model_type, given = CASES[case]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **{**given, **more})
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            large = 0.2 if weight.dim() == 1 else 0.3
            weight.normal_(std=large).add_(weight.dim() == 1)
    model.save_pretrained(folder)
    return model


def read(folder: Path) -> Any:
    """The model as transformers reads it. Fails if that warns of anything."""
    import logging

    from transformers import AutoModelForCausalLM
    from transformers import logging as theirs

    theirs.set_verbosity_warning()
    theirs.disable_progress_bar()
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = AutoModelForCausalLM.from_pretrained(folder).eval()
    finally:
        logger.removeHandler(handler)
    assert said == []
    return found


def prompt(length: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(length)
    return torch.randint(0, 129, (2, length), generator=generator)


def greedy(model: Any, length: int, tokens: int) -> list[list[int]]:
    """What transformers' own `generate` appends to a prompt, which no token ends."""
    import torch

    given = prompt(length)
    model.generation_config.eos_token_id = None
    found = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        max_new_tokens=tokens,
        pad_token_id=0,
    )
    return found[:, length:].tolist()
