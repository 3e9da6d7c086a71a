"""Rotary positions of a config.json: as transformers computes them, in both of its spellings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from configs.errors import InputError
from configs.settings.network import RotaryConfig
from models.huggingface.families import LLAMA
from models.huggingface.rope import Rotary
from models.ops.rotary import attention_factor, frequencies
from tests.pretrained import LLAMA3, SIZES, YARN

LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}
NEOX = Rotary(theta="rotary_emb_base", fraction="rotary_pct", partial=0.25)


PLAIN = Rotary()


def read(config: dict[str, Any], rotary: Rotary = PLAIN) -> RotaryConfig:
    found: RotaryConfig = rotary.read({**SIZES, **config})["rotary"]
    return found


@pytest.mark.parametrize(
    "said",
    [
        LINEAR,
        LLAMA3,
        YARN,
        {**YARN, "attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0},
        {**YARN, "truncate": True},
        {**YARN, "factor": 40.0, "original_max_position_embeddings": 4096},
    ],
    ids=["linear", "llama3", "yarn", "yarn-attention", "yarn-truncate", "yarn-long"],
)
@pytest.mark.parametrize("width", [8, 64, 128])
def test_frequencies_are_transformers(said: dict[str, Any], width: int) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(**{**SIZES, "head_dim": width, "rope_parameters": dict(said)})
    theirs, factor = ROPE_INIT_FUNCTIONS[said["rope_type"]](config, torch.device("cpu"))
    ours = read({"rope_parameters": said})
    torch.testing.assert_close(frequencies(ours, width).float(), theirs, rtol=1e-6, atol=0)
    assert attention_factor(ours) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize("said", [LINEAR, LLAMA3, YARN], ids=lambda it: it["rope_type"])
def test_both_spellings_say_the_same(said: dict[str, Any]) -> None:
    new = read({"rope_parameters": said})
    theta, kind = said["rope_theta"], said["rope_type"]
    inner = {key: it for key, it in said.items() if key not in ("rope_theta", "rope_type")}
    for name in ("type", "rope_type"):
        old = read({"rope_theta": theta, "rope_scaling": {name: kind, **inner}})
        assert old == new
    assert read({"rope_parameters": said, "rope_theta": theta}) == new
    shape = LLAMA.shape({**SIZES, "model_type": "llama", "rope_parameters": said})
    assert read(Rotary().write(shape)) == new


def test_part_of_a_head_is_rotated_by_either_name() -> None:
    assert read({}, NEOX) == RotaryConfig(fraction=0.25)
    old = read({"rotary_pct": 0.5, "rotary_emb_base": 100}, NEOX)
    new = read({"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 100.0}}, NEOX)
    assert old == new == RotaryConfig(base=100.0, fraction=0.5)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type='dynamic' is not"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "nearest: default or linear or llama3"),
        ({"rope_scaling": {"type": ["yarn"]}}, "rope_type=['yarn'] is not supported"),
        ({"rope_scaling": [1]}, "rope_scaling=[1] is no object"),
        ({"rope_parameters": {**LINEAR, "factor": None}}, "rope_type='linear' has no factor"),
        ({"rope_parameters": {**LINEAR, "factor": 0}}, "factor=0 is no positive number"),
        ({"rope_parameters": {**YARN, "mscale": 1.0}}, "mscale=1.0 of rope_type=yarn is not"),
        ({"rope_parameters": {**YARN, "truncate": False}}, "truncate=False of rope_type=yarn"),
        ({"rope_parameters": LINEAR, "rope_theta": 5e5}, "rope_theta=500000.0 contradicts"),
        ({"rope_parameters": LINEAR, "rope_scaling": {"factor": 4.0}}, "factor=4.0 contradicts"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported"),
        ({"rope_theta": "big"}, "rope_theta='big' is no positive number"),
        (
            {"rope_parameters": {**YARN, "original_max_position_embeddings": 0.5}},
            "original_max_position_embeddings=0.5 is no size",
        ),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:30],
)
def test_what_is_not_known_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refused:
        read(config)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
