"""Weights under Hugging Face's names: their model gives our logits, the way back loses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from configs.errors import InputError
from configs.network import AttentionPattern
from models.huggingface import from_gpt2, gpt2_config, require_gpt2, shape_of_gpt2, to_gpt2
from models.shape import ModelShape
from parallel.layout import Layout
from tests import training
from tests.pool import RankPool

DENSE = replace(training.SHAPE, attention=AttentionPattern.dense, window=training.SHAPE.context)
LENGTHS = (1, 5, 16)
Answer = tuple[list[tuple[str, Any, Tensor]], list[Tensor]]


def weights_and_logits(layout: Layout) -> Answer:
    """A job: trains two steps, so that no bias is zero; the weights, and logits of some prompts."""
    from configs.schema import Precision

    with training.engine(layout, Precision.float32, DENSE) as engine:
        training.take_steps(engine, layout, 1, 2)
        (chunk,) = engine.chunks
        return training.weights_here(engine), [last_logits(chunk, length) for length in LENGTHS]


@torch.no_grad()
def last_logits(chunk: Any, length: int) -> Tensor:
    tokens = prompt(length)
    return chunk(tokens, torch.arange(length).expand_as(tokens), None)[:, -1, : DENSE.vocab]


def prompt(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(0, DENSE.vocab, (2, length), generator=generator)


@pytest.fixture(scope="module")
def ours(ranks: RankPool) -> tuple[dict[str, Tensor], list[Tensor]]:
    weights, logits = ranks.run(1, weights_and_logits, Layout(micro_batch=4))[0]
    return {name: tensor for name, _, tensor in weights}, logits


def test_their_model_gives_our_logits(ours: tuple[dict[str, Tensor], list[Tensor]]) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    weights, logits = ours
    theirs = GPT2LMHeadModel(GPT2Config(**gpt2_config(DENSE, "float32", None))).eval()
    missing, unexpected = theirs.load_state_dict(to_gpt2(weights, DENSE), strict=False)
    assert unexpected == []
    assert set(missing) <= {"lm_head.weight"}, "tied to the embedding"
    theirs.tie_weights()
    for length, expected in zip(LENGTHS, logits, strict=True):
        with torch.no_grad():
            found = theirs(prompt(length)).logits[:, -1]
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-4


def test_there_and_back_is_the_same_to_the_bit(
    ours: tuple[dict[str, Tensor], list[Tensor]],
) -> None:
    weights, _ = ours
    exported = to_gpt2(weights, DENSE)
    assert exported["transformer.wte.weight"].shape == (DENSE.vocab, DENSE.hidden)
    for prefix in ("", "transformer."):
        renamed = {name.removeprefix(prefix): weight for name, weight in exported.items()}
        back = from_gpt2(renamed, DENSE)
        assert back.keys() == weights.keys()
        for name, weight in weights.items():
            rows = DENSE.vocab if "word_embeddings" in name else len(weight)
            assert torch.equal(back[name], weight[:rows]), name


def test_config_there_and_back() -> None:
    assert shape_of_gpt2(gpt2_config(DENSE, "float32", 0)) == DENSE


def test_banded_layers_have_no_equivalent() -> None:
    with pytest.raises(InputError, match="banded layers see 5 of 16 tokens and have no GPT-2"):
        require_gpt2(training.SHAPE)
    require_gpt2(replace(training.SHAPE, window=training.SHAPE.context))  # a band of everything


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "llama"}, "model_type='llama', not 'gpt2'"),
        ({"activation_function": "relu"}, "activation_function='relu'"),
        ({"n_inner": 100}, "n_inner=100, not None or 128"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_model_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match="another model than ours") as refusal:
        shape_of_gpt2({**gpt2_config(DENSE, "float32", 0), **change})
    assert says in str(refusal.value)


def test_what_config_leaves_out_is_named() -> None:
    config = gpt2_config(DENSE, "float32", 0)
    del config["n_layer"]
    with pytest.raises(InputError, match="n_layer is missing"):
        shape_of_gpt2(config)


def test_missing_and_misshapen_weights_are_named(
    ours: tuple[dict[str, Tensor], list[Tensor]],
) -> None:
    exported = to_gpt2(ours[0], DENSE)
    less = {name: it for name, it in exported.items() if "h.2.attn.c_proj.bias" not in name}
    with pytest.raises(InputError, match=r"h\.2\.attn\.c_proj\.bias: is not among the weights"):
        from_gpt2(less, DENSE)
    wider = ModelShape(
        layers=4, hidden=64, heads=4, context=16, vocab=130, attention=AttentionPattern.dense
    )
    with pytest.raises(InputError, match=r"gives \(256, 32\), the model has \(256, 64\)"):
        from_gpt2(exported, wider)
