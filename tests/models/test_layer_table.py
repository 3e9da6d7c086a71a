from __future__ import annotations

import pytest

from models.shape import ModelShape
from tests.runs import run_of

SHAPE = ModelShape.of(run_of("model=gpt3_125m").model)


def test_a_layer_is_the_papers() -> None:
    assert sum(each.numbers for each in SHAPE.layer(0)) == 12 * 768**2 + 13 * 768
    assert [each.shape for each in SHAPE.layer(0) if each.is_matrix] == [
        *((768, 768), (3 * 768, 768)),
        *((4 * 768, 768), (768, 4 * 768)),
    ]


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_parts_add_up(tensor: int) -> None:
    for each in (*SHAPE.layer(0), *SHAPE.outside_layers):
        copies = 1 if each.split is not None else tensor
        padding = (50_304 - 50_257) * 768 if each.padded else 0
        assert each.numbers_on_rank(tensor) * tensor == each.numbers * copies + padding


def test_by_global_name() -> None:
    assert SHAPE.parameter("decoder.layers.11.mlp.linear_fc1.bias").shape == (4 * 768,)
    assert SHAPE.parameter("embedding.word_embeddings.weight").shape == (50_257, 768)
    assert SHAPE.parameter("decoder.layers.0.self_attention.linear_proj.weight").to_residual
    for name in ("decoder.layers.0.mlp.linear_fc3.weight", "mlp.linear_fc1.weight", "lm_head"):
        with pytest.raises(KeyError):
            SHAPE.parameter(name)
