"""Every family: transformers' model gives our logits, and the way back loses nothing."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from configs.errors import InputError
from configs.settings.network import (
    AttentionPattern,
    Balance,
    Biases,
    Mlp,
    MoeConfig,
    QkNorm,
    Residual,
    RotaryConfig,
    RouterScore,
)
from models.decoding.decoder import Decoder, names_of
from models.huggingface.families import FAMILIES, family_for, family_of
from models.huggingface.reading import Weights
from models.huggingface.same import without_effect_of
from models.huggingface.writing import INDEX, Writer, save
from models.initialise import Part
from models.shape import ModelShape
from tests import families, mixtures, pretrained
from tests.runs import run_of
from tests.training import SHAPE


def with_moe(shape: ModelShape, **changes: Any) -> ModelShape:
    return replace(shape, moe=replace(shape.moe, **changes))


MIXTRAL = replace(families.LLAMA, moe=MoeConfig(experts=6, top_k=2))
WEIGHTS = "model.safetensors"
WRITTEN_AS_OTHERS = ("mistral-dense",)  # the llama that it is
Case = tuple[str, Path, Any]


@pytest.fixture(scope="module", params=pretrained.CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A name, the folder that transformers wrote, and its model."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, pretrained.write(folder, request.param)


def weights_of(folder: Path) -> Weights:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    family = family_of(config)
    names = load_file(folder / WEIGHTS)
    return Weights(family, family.shape(config), dict.fromkeys(names, folder / WEIGHTS))


def whole(weights: Weights) -> dict[str, Tensor]:
    shape = weights.shape
    return {
        name: weights.rows(name, 0, shape.parameter(name).shape[0])
        for name in names_of(range(shape.layers), shape)
    }


@torch.no_grad()
def test_logits_are_theirs(case: Case) -> None:
    _, folder, model = case
    weights = weights_of(folder)
    shape = weights.shape
    decoder = Decoder(shape, range(shape.layers), whole(weights))
    for length in pretrained.LENGTHS:
        tokens = pretrained.prompt(length)
        hidden = decoder.embed(tokens, torch.arange(length).expand_as(tokens))
        hidden = decoder.begin(hidden, torch.tensor([length] * 2), decoder.caches(0))
        ours = decoder.logits(hidden.flatten(0, 1)).view(2, length, -1)
        assert (ours[..., : shape.vocab] - model(tokens).logits).abs().max() < 1e-4


@torch.no_grad()
def test_there_and_back_is_the_same_to_the_bit(case: Case, tmp_path: Path) -> None:
    name, folder, model = case
    weights = weights_of(folder)
    save(whole(weights), weights.shape, tmp_path)
    before, after = (load_file(each / WEIGHTS) for each in (folder, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    back = pretrained.read(tmp_path)
    tokens = pretrained.prompt(20)
    assert torch.equal(back(tokens).logits, model(tokens).logits)
    if name not in WRITTEN_AS_OTHERS:
        assert back.config.model_type == model.config.model_type
    found = weights_of(tmp_path).shape
    assert without_effect_of(found) == without_effect_of(weights.shape)
    assert found.moe.balance_weight == weights.shape.moe.balance_weight


def test_rows_read_once_are_those_of_the_library(case: Case) -> None:
    weights = weights_of(case[1])
    for name, tensor in whole(weights).items():
        for first, size in ((0, len(tensor)), (1, len(tensor) - 1), (len(tensor) // 2, 1)):
            out = torch.full((size, *tensor.shape[1:]), torch.nan)
            weights.stream(name, out, first)
            assert torch.equal(out, tensor[first : first + size]), name


def test_a_file_that_was_cut_since_is_told(case: Case, tmp_path: Path) -> None:
    shutil.copy(case[1] / "config.json", tmp_path)
    file = Path(shutil.copy(case[1] / WEIGHTS, tmp_path))
    weights = weights_of(tmp_path)
    os.truncate(file, file.stat().st_size // 2)
    outs = {name: torch.empty_like(it) for name, it in whole(weights_of(case[1])).items()}

    def stream() -> None:
        for name, out in outs.items():
            weights.stream(name, out, 0)

    with pytest.raises(OSError, match="before its tensors do"):
        stream()


def test_a_part_is_what_the_whole_is_cut_into(case: Case) -> None:
    weights = weights_of(case[1])
    for name, tensor in whole(weights).items():
        parameter = weights.shape.parameter(name)
        if parameter.split is None:
            continue
        for index in range(2):
            part = Part(parameter.split, index, 2, parameter.blocks)
            local = parameter.shape_on_rank(2)
            assert torch.equal(weights.part(name, part, local), part.of(tensor, local)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pieces_come_in_any_order_and_files_are_cut(
    case: Case, dtype: torch.dtype, tmp_path: Path
) -> None:
    name, folder, _ = case
    weights = weights_of(folder)
    family = family_for(weights.shape)
    with Writer(tmp_path, family, weights.shape, dtype, largest=12_000) as writer:
        for key, tensor in reversed(whole(weights).items()):
            half = len(tensor) // 2 - 1
            for first, rows in ((half, tensor[half:]), (0, tensor[:half])):
                if tensor.dim() == 1:
                    writer.take(key, (first,), rows)
                    continue
                for column in (16, 0):  # a piece of a row-parallel matrix
                    last = tensor.shape[1] if column else 16
                    writer.take(key, (first, column), rows[:, column:last])
    index = json.loads((tmp_path / INDEX).read_text(encoding="utf-8"))["weight_map"]
    assert len(set(index.values())) > 2
    expected = load_file(folder / WEIGHTS)
    assert index.keys() == expected.keys()
    for file in set(index.values()):
        for key, tensor in load_file(tmp_path / file).items():
            assert index[key] == file
            assert torch.equal(tensor, expected[key].to(dtype)), (name, key)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("llama2_7b", "llama"),
        ("llama3_8b", "llama"),
        ("llama3_1b", "llama"),
        ("mistral_7b", "mistral"),
        ("qwen2.5_7b", "qwen2"),
        ("qwen3_4b", "qwen3"),
        ("pythia_1b", "gpt_neox"),
        ("olmo2_7b", "olmo2"),
        ("mixtral_8x7b", "mixtral"),
        ("qwen3_30b_a3b", "qwen3_moe"),
        ("qwen3_235b_a22b", "qwen3_moe"),
        ("olmoe_7b", "olmoe"),
    ],
)
def test_transformers_knows_the_published_models_by_our_settings(model: str, kind: str) -> None:
    from transformers import AutoConfig

    shape = ModelShape.of(run_of(f"model={model}").model)
    family = family_for(shape)
    assert family.model_type == kind
    written = {**family.config(shape), "bos_token_id": None, "eos_token_id": None}
    model_type = written.pop("model_type")
    theirs = AutoConfig.for_model(model_type, **written).to_json_string()  # in its own spelling
    assert without_effect_of(family.shape(json.loads(theirs))) == without_effect_of(shape)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (SHAPE, "model.attention=alternating, model.window=5: not what a gpt2 can be"),
        (families.EVERYTHING, "not what a"),
        (replace(families.LLAMA, mlp=Mlp.gelu), "model.mlp=gelu: not what a llama can be"),
        (replace(families.LLAMA, logit_softcap=30.0), "model.logit_softcap=30.0: not what a llama"),
        (replace(families.NEOX, residual=Residual.post_norm), "model.residual=post_norm: not"),
        (
            replace(families.LLAMA, rotary=RotaryConfig(fraction=0.5)),
            "model.rotary.fraction=0.5: not what a llama can be",
        ),
        (
            mixtures.SIGMOID,
            "model.moe.shared=40, model.moe.score=sigmoid, model.moe.scale=2.5, "
            "model.moe.bias_rate=0.001, model.qk_norm=none: not what a qwen3_moe can be",
        ),
        (with_moe(mixtures.SAID, shared=8), "model.moe.shared=8: not what a qwen3_moe can be"),
        (with_moe(mixtures.SAID, scale=2.0), "model.moe.scale=2.0: not what a qwen3_moe can be"),
        (with_moe(MIXTRAL, renormalise=False), "model.qk_norm=none: not what a qwen3_moe can be"),
        (with_moe(MIXTRAL, dense_layers=2), "model.moe.dense_layers=2: not what a mixtral can be"),
        (replace(mixtures.SAID, biases=Biases.qkv), "model.biases=qkv: not what a qwen3_moe can"),
    ],
    ids=lambda value: (
        families.NAMES.get(value) or mixtures.NAMES.get(value)
        if isinstance(value, ModelShape)
        else value[:40]
    ),
)
def test_what_no_family_can_say_is_named(shape: ModelShape, says: str) -> None:
    with pytest.raises(InputError) as refused:
        family_for(shape)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (mixtures.SAID, "qwen3_moe"),
        (MIXTRAL, "mixtral"),
        (with_moe(MIXTRAL, score=RouterScore.softmax_chosen, renormalise=False), "mixtral"),
        (with_moe(MIXTRAL, feed_forward=40), "mixtral"),
        (with_moe(MIXTRAL, score=RouterScore.softmax_chosen, top_k=1), "mixtral"),
        (
            with_moe(MIXTRAL, balance=Balance.none, balance_weight=0.5, z_loss=1e-3, capacity=1.25),
            "mixtral",
        ),
    ],
)
def test_what_says_the_same_of_experts_is_the_same(shape: ModelShape, kind: str) -> None:
    family = family_for(shape)
    assert family.model_type == kind
    back = family.shape(family.config(shape))
    assert without_effect_of(back) == without_effect_of(shape)
    assert back.moe.balance_weight == shape.moe.balance_weight
    assert back.parameters == shape.parameters
    assert back.expert_feed_forward == shape.expert_feed_forward


def test_a_single_weight_that_is_no_1_is_not_said() -> None:
    """Ours leaves a single expert's weight as it is; transformers' Mixtral divides it by itself."""
    one = with_moe(MIXTRAL, top_k=1)
    with pytest.raises(
        InputError, match=r"score=softmax, model.moe.renormalise=true: not what a mi"
    ):
        family_for(one, "mixtral")
    with pytest.raises(InputError, match=r"score=softmax, model.moe.renormalise=false: not what"):
        family_for(with_moe(MIXTRAL, renormalise=False), "mixtral")
    said = with_moe(replace(MIXTRAL, qk_norm=QkNorm.head), top_k=1)
    assert family_for(said).config(said)["norm_topk_prob"] is False


def test_experts_or_none_is_one_difference() -> None:
    with pytest.raises(InputError, match=r"^model.moe.experts=6: not what a llama can be, the fam"):
        family_for(MIXTRAL, "llama")
    with pytest.raises(InputError, match=r"^model.moe.experts=0: not what a mixtral can be, the f"):
        family_for(families.LLAMA, "mixtral")


def test_a_family_may_be_asked_for() -> None:
    assert family_for(families.LLAMA).model_type == "llama"
    assert family_for(families.LLAMA, "mistral").model_type == "mistral"
    with pytest.raises(InputError, match=r"model.biases=none, .*not what a qwen2 can be, the fam"):
        family_for(replace(families.LLAMA, head_width=16, logit_softcap=2.0), "qwen2")
    with pytest.raises(InputError, match="is not supported; nearest: llama"):
        family_for(families.LLAMA, "lama")


def test_a_window_as_wide_as_the_context_is_none() -> None:
    wide = replace(SHAPE, window=SHAPE.context)
    assert family_for(wide).model_type == "gpt2"
    banded = replace(families.LLAMA, attention=AttentionPattern.banded)
    assert family_for(banded).model_type == "mistral"


BASE = dict(pretrained.SIZES) | {"model_type": "llama", "rms_norm_eps": 1e-5}
GPT2 = dict(pretrained.GPT2) | {"model_type": "gpt2"}
MOE = dict(pretrained.EXPERTS) | {"model_type": "qwen3_moe"}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "lllama"}, "model_type='lllama' is not supported; nearest: llama"),
        ({"model_type": "bert"}, "qwen3, gpt_neox, olmo2, mixtral, qwen3_moe, olmoe"),
        ({"model_type": None}, "model_type is missing"),
        ({**BASE, "num_hidden_layers": 0}, "num_hidden_layers=0 is no size"),
        ({**BASE, "num_hidden_layers": 10**12}, "is no size"),
        ({**BASE, "hidden_size": "32"}, "hidden_size='32' is no size"),
        ({**BASE, "num_key_value_heads": 3}, "3 heads of keys and values do not divide the 4"),
        ({**BASE, "num_attention_heads": 5, "num_key_value_heads": 5}, "no multiple of 5 heads"),
        ({**BASE, "hidden_act": "relu"}, "hidden_act='relu' is not supported; nearest: 'silu'"),
        ({**BASE, "attention_bias": True}, "with mlp_bias=False is not supported"),
        ({**BASE, "sliding_window": 9}, "sliding_window=9: not known of a llama here"),
        ({**BASE, "auto_map": {"AutoModel": "evil.Model"}}, "auto_map="),
        ({**BASE, "quantization_config": {"bits": 4}}, "quantization_config="),
        ({**BASE, "architectures": ["LlamaForSequenceClassification"]}, "architectures="),
        ({**BASE, "rms_norm_eps": float("nan")}, "rms_norm_eps=nan is no positive number"),
        ({**BASE, "tie_word_embeddings": 1}, "tie_word_embeddings=1 is not supported"),
        ({**BASE, "model_type": "qwen2", "layer_types": ["full_attention"]}, "has 1 layers"),
        (
            {**BASE, "model_type": "qwen2", "layer_types": ["sliding_attention"] * 2},
            "contradicts the sliding_attention layers",
        ),
        (
            {
                **BASE,
                "model_type": "qwen3",
                "num_hidden_layers": 3,
                "use_sliding_window": True,
                "max_window_layers": 1,
            },
            "max_window_layers=1 gives layers with a window in an order that is not supported",
        ),
        ({**BASE, "model_type": "olmo2", "attention_bias": True}, "attention_bias=True"),
        ({**MOE, "num_experts": 0}, "num_experts=0 is no size"),
        ({**MOE, "num_local_experts": 8}, "num_local_experts=8 contradicts num_experts=6"),
        ({**MOE, "num_experts_per_tok": 7}, "num_experts_per_tok=7 is more than the 6 experts"),
        ({**MOE, "num_experts_per_tok": 0}, "num_experts_per_tok=0 is no size"),
        ({**MOE, "moe_intermediate_size": None}, "moe_intermediate_size=None is no size"),
        ({**MOE, "decoder_sparse_step": 2}, "decoder_sparse_step=2 is not supported; nearest: 1"),
        ({**MOE, "mlp_only_layers": [1]}, "mlp_only_layers=[1] is not supported; nearest: the fir"),
        ({**MOE, "mlp_only_layers": [0, 0]}, "mlp_only_layers=[0, 0] is not supported"),
        ({**MOE, "mlp_only_layers": "0"}, "mlp_only_layers='0' is no list of layers"),
        ({**MOE, "mlp_only_layers": [0, 1]}, "mlp_only_layers has all 2 layers, which leaves no"),
        ({**MOE, "norm_topk_prob": 1}, "norm_topk_prob=1 is not supported"),
        ({**MOE, "router_aux_loss_coef": -1}, "router_aux_loss_coef=-1 is no factor"),
        ({**MOE, "attention_bias": True}, "attention_bias=True"),
        ({**MOE, "shared_expert_intermediate_size": 8}, "shared_expert_intermediate_size=8: not"),
        (
            {**MOE, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
            "max_window_layers=1 with use_sliding_window=True is not supported; nearest: 0",
        ),
        ({**MOE, "model_type": "mixtral", "norm_topk_prob": True}, "norm_topk_prob=True: not kno"),
        ({**MOE, "model_type": "mixtral", "mlp_only_layers": [0]}, "mlp_only_layers=[0]: not kn"),
        ({**MOE, "model_type": "olmoe", "clip_qkv": 8.0}, "clip_qkv=8.0 is not supported"),
        (
            {**MOE, "model_type": "olmoe", "sliding_window": 5},
            "sliding_window=5: not known of a ol",
        ),
        ({**GPT2, "n_ctx": 32}, "n_ctx=32 contradicts n_positions=64"),
        ({**GPT2, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({**GPT2, "n_layer": [2]}, "n_layer=[2] is no size"),
        ({key: GPT2[key] for key in GPT2 if key != "n_head"}, "n_head is missing"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:30],
)
def test_a_config_that_is_not_ours_is_told_in_one_line(config: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refused:
        family_of(config).shape(config)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "model_type", ["llama", "mistral", "olmo2", "mixtral", "qwen3_moe", "olmoe"]
)
def test_a_missing_key_means_what_it_means_to_transformers(model_type: str) -> None:
    from transformers import AutoConfig

    sizes = {key: it for key, it in pretrained.NEOX.items() if not key.endswith("token_id")}
    given = {**sizes, "hidden_size": 64, "num_attention_heads": 16}
    theirs = json.loads(AutoConfig.for_model(model_type, **given).to_json_string())
    assert len(theirs) > len(given) + 8, "all keys, with their defaults"
    config = {**given, "model_type": model_type}
    assert family_of(config).shape(config) == family_of(theirs).shape(theirs)


def test_every_family_has_a_case() -> None:
    assert {model_type for model_type, _ in pretrained.CASES.values()} == {
        family.model_type for family in FAMILIES
    }
