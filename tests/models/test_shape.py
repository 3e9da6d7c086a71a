"""The eight sizes against the paper: Brown et al. 2020, Tables 2.1 and D.1."""

from __future__ import annotations

import pytest

from models.flops import paper_training_flops
from models.shape import ModelShape
from tests.runs import run_of

PF_DAY = 1e15 * 86_400

# Model, millions of parameters as printed and to what they are rounded, training PF-days.
TABLE_D1 = [
    ("gpt3_125m", 125, 1, 2.60),
    ("gpt3_350m", 356, 1, 7.42),
    ("gpt3_760m", 760, 1, 15.8),
    ("gpt3_1.3b", 1_320, 10, 27.5),
    ("gpt3_2.7b", 2_650, 10, 55.2),
    ("gpt3_6.7b", 6_660, 10, 139),
    ("gpt3_13b", 12_850, 10, 268),
    ("gpt3_175b", 174_600, 100, 3640),
]


@pytest.mark.parametrize(("model", "millions", "rounding", "pf_days"), TABLE_D1)
def test_parameters_and_compute_are_the_papers(
    model: str, millions: int, rounding: int, pf_days: float
) -> None:
    config = run_of(f"model={model}").model
    shape = ModelShape.of(config)
    assert round(shape.parameters / 1e6 / rounding) * rounding == millions
    days = paper_training_flops(shape, config.recipe.tokens) / PF_DAY
    assert days == pytest.approx(pf_days, rel=0.01)


# Layers, width, heads, head width, batch in tokens, learning rate. Where ours differ from the
# print, the model's file says why.
TABLE_2_1 = [
    ("gpt3_125m", 12, 768, 12, 64, 0.5e6, 6.0e-4),
    ("gpt3_350m", 24, 1024, 16, 64, 0.5e6, 3.0e-4),
    ("gpt3_760m", 24, 1536, 16, 96, 0.5e6, 2.5e-4),
    ("gpt3_1.3b", 24, 2048, 16, 128, 1e6, 2.0e-4),
    ("gpt3_2.7b", 32, 2560, 32, 80, 1e6, 1.6e-4),
    ("gpt3_6.7b", 32, 4096, 32, 128, 2e6, 1.2e-4),
    ("gpt3_13b", 40, 5120, 40, 128, 2e6, 1.0e-4),
    ("gpt3_175b", 96, 12288, 96, 128, 3.2e6, 0.6e-4),
]


@pytest.mark.parametrize(
    ("model", "layers", "hidden", "heads", "width", "batch", "rate"), TABLE_2_1
)
def test_sizes_are_the_papers(
    model: str, layers: int, hidden: int, heads: int, width: int, batch: float, rate: float
) -> None:
    config = run_of(f"model={model}").model
    shape = ModelShape.of(config)
    assert (shape.layers, shape.hidden, shape.heads, shape.head_width) == (
        layers,
        hidden,
        heads,
        width,
    )
    # The paper prints half millions; its batches are powers of two but for the largest.
    assert config.recipe.global_batch * config.context == pytest.approx(batch, rel=0.05)
    assert config.recipe.learning_rate == rate
    assert config.recipe.tokens == 300e9


@pytest.mark.parametrize("model", [model for model, *_ in TABLE_2_1])
def test_heads_make_up_the_width(model: str) -> None:
    shape = ModelShape.of(run_of(f"model={model}").model)
    assert shape.heads * shape.head_width == shape.hidden


def test_the_padded_vocabulary_is_the_next_multiple() -> None:
    shape = ModelShape.of(run_of("model=gpt3_125m").model)
    assert shape.padded_vocab() == shape.padded_vocab(8) == 50_304
    assert ModelShape.of(run_of("model=gpt3_nano").model).padded_vocab(2) == 4096


@pytest.mark.parametrize("tensor", [1, 2, 3, 5, 6, 12, 96])
def test_the_vocabulary_is_padded_for_any_number_of_ranks(tensor: int) -> None:
    shape = ModelShape.of(run_of("model=gpt3_125m").model)
    rows = shape.vocab_on_rank(tensor)
    assert rows * tensor == shape.padded_vocab(tensor) >= shape.vocab
    assert shape.padded_vocab(tensor) - shape.vocab < 128 * tensor


@pytest.mark.parametrize(
    ("attention", "banded"),
    [
        ("dense", [False] * 4),
        ("banded", [True] * 4),
        ("alternating", [False, True, False, True]),
    ],
)
def test_which_layers_are_banded(attention: str, banded: list[bool]) -> None:
    shape = ModelShape.of(run_of(f"model=gpt3_nano model.attention={attention}").model)
    assert [shape.is_banded(layer) for layer in range(4)] == banded
