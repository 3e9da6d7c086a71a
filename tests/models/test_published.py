"""Published models: their parameters, counted exactly, and their operations."""

from __future__ import annotations

import pytest

from configs.describe import FOLDER
from models.flops import forward_flops_per_sample
from models.shape import ModelShape
from tests.runs import run_of

API = "Hugging Face's safetensors.total of {}"
PRINTED = "transformers' num_parameters of {}; safetensors.total also counts {}"
CARD = "total params on the model card of EleutherAI/{}"
PUBLISHED = [
    ("llama2_7b", 6_738_415_616, PRINTED.format("meta-llama/Llama-2-7b-hf", "rotary buffers")),
    ("llama2_13b", 13_015_864_320, PRINTED.format("meta-llama/Llama-2-13b-hf", "rotary buffers")),
    ("llama2_70b", 68_976_648_192, PRINTED.format("meta-llama/Llama-2-70b-hf", "rotary buffers")),
    ("llama3_8b", 8_030_261_248, API.format("meta-llama/Llama-3.1-8B")),
    ("llama3_70b", 70_553_706_496, API.format("meta-llama/Llama-3.1-70B")),
    ("llama3_405b", 405_853_388_800, API.format("meta-llama/Llama-3.1-405B")),
    ("llama3_1b", 1_235_814_400, API.format("meta-llama/Llama-3.2-1B")),
    ("llama3_3b", 3_212_749_824, API.format("meta-llama/Llama-3.2-3B")),
    ("qwen3_0.6b", 596_049_920, PRINTED.format("Qwen/Qwen3-0.6B-Base", "a tied copy")),
    ("qwen3_1.7b", 1_720_574_976, PRINTED.format("Qwen/Qwen3-1.7B-Base", "a tied copy")),
    ("qwen3_4b", 4_022_468_096, API.format("Qwen/Qwen3-4B-Base")),
    ("qwen3_8b", 8_190_735_360, API.format("Qwen/Qwen3-8B-Base")),
    ("qwen3_14b", 14_768_307_200, API.format("Qwen/Qwen3-14B-Base")),
    ("qwen3_32b", 32_762_123_264, API.format("Qwen/Qwen3-32B")),
    ("qwen2.5_7b", 7_615_616_512, API.format("Qwen/Qwen2.5-7B")),
    ("mistral_7b", 7_241_732_096, API.format("mistralai/Mistral-7B-v0.1")),
    ("pythia_70m", 70_426_624, CARD.format("pythia-70m")),
    ("pythia_160m", 162_322_944, CARD.format("pythia-160m")),
    ("pythia_410m", 405_334_016, CARD.format("pythia-410m")),
    ("pythia_1b", 1_011_781_632, CARD.format("pythia-1b")),
    ("pythia_1.4b", 1_414_647_808, CARD.format("pythia-1.4b")),
    ("pythia_2.8b", 2_775_208_960, CARD.format("pythia-2.8b")),
    ("pythia_6.9b", 6_857_302_016, CARD.format("pythia-6.9b")),
    ("pythia_12b", 11_846_072_320, CARD.format("pythia-12b")),
    ("olmo2_7b", 7_298_617_344, API.format("allenai/OLMo-2-1124-7B")),
    ("mixtral_8x7b", 46_702_792_704, API.format("mistralai/Mixtral-8x7B-v0.1")),
    ("qwen3_30b_a3b", 30_532_122_624, API.format("Qwen/Qwen3-30B-A3B-Base")),
    ("qwen3_235b_a22b", 235_093_634_560, API.format("Qwen/Qwen3-235B-A22B")),
    ("olmoe_7b", 6_919_161_856, API.format("allenai/OLMoE-1B-7B-0924")),
]
ACTIVE = [
    ("mixtral_8x7b", 12.9, "section 2.1 of arXiv:2401.04088: 13B"),
    ("qwen3_30b_a3b", 3.3, "the model card of Qwen/Qwen3-30B-A3B: 3.3B activated"),
    ("qwen3_235b_a22b", 22, "the model card of Qwen/Qwen3-235B-A22B: 22B activated"),
    ("olmoe_7b", 1.3, "table 1 of arXiv:2409.02060: 1.3B"),
]


@pytest.mark.parametrize(("model", "parameters", "source"), PUBLISHED)
def test_parameters_are_the_published_count(model: str, parameters: int, source: str) -> None:
    assert ModelShape.of(run_of(f"model={model}").model).parameters == parameters, source
    first_line = (FOLDER / "model" / f"{model}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert f"{parameters:,} parameters" in first_line


@pytest.mark.parametrize(("model", "billions", "source"), ACTIVE)
def test_active_parameters_are_the_published_ones(model: str, billions: float, source: str) -> None:
    shape = ModelShape.of(run_of(f"model={model}").model)
    assert shape.active_parameters / 1e9 == pytest.approx(billions, rel=0.02), source
    first_line = (FOLDER / "model" / f"{model}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert f", {billions}B of a token" in first_line
    # Of one token: attention, the router, its experts, and everything outside the layers.
    outside = sum(each.numbers for each in shape.outside_layers)
    layers = sum(
        each.numbers * (shape.moe.top_k if each.expert == 0 else 1)
        for number in range(shape.layers)
        for each in shape.layer(number)
        if not each.expert
    )
    assert shape.active_parameters == outside + layers


def test_without_experts_all_parameters_are_active() -> None:
    shape = ModelShape.of(run_of("model=llama3_1b").model)
    assert shape.active_parameters == shape.parameters


def test_operations_of_grouped_heads_and_a_gated_mlp() -> None:
    """Llama 3 8B, matmul by matmul."""
    shape = ModelShape.of(run_of("model=llama3_8b").model)
    tokens, hidden, keys, inner = 8192, 4096, 1024, 14336
    layer = 2 * tokens * hidden * (hidden + 2 * keys + hidden + 3 * inner)
    scores = 4 * hidden * tokens * (tokens + 1) // 2
    logits = 2 * tokens * hidden * 128_256
    assert forward_flops_per_sample(shape) == 32 * (layer + scores) + logits


def test_a_head_may_be_wider_than_its_share() -> None:
    shape = ModelShape.of(run_of("model=qwen3_4b").model)
    assert (shape.heads * shape.head_width, shape.hidden) == (4096, 2560)
    assert shape.parameter("decoder.layers.0.self_attention.linear_proj.weight").shape == (
        2560,
        4096,
    )
    assert shape.parameter("decoder.layers.0.self_attention.k_layernorm.weight").shape == (128,)
