"""Every shard of every split holds the same numbers."""

from __future__ import annotations

import math

import pytest
import torch

from models.initialise import Part, initial_weight, normal_part
from models.shape import ModelShape

MODEL = ModelShape(layers=8, hidden=24, heads=4, context=16, vocab=100)


def unsplit(name: str, shape: tuple[int, int], seed: int) -> torch.Tensor:
    return normal_part(name, torch.Size(shape), Part(), shape, seed)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("parts", [2, 3, 4, 6])
def test_parts_put_together_are_the_whole(dim: int, parts: int) -> None:
    whole = unsplit("w", (12, 36), seed=1)
    shape = torch.Size([12 // parts, 36] if dim == 0 else [12, 36 // parts])
    pieces = [
        normal_part("w", shape, Part(dim, index, parts), (12, 36), seed=1) for index in range(parts)
    ]
    assert torch.equal(torch.cat(pieces, dim), whole)


def test_numbers_are_normal_and_depend_on_name_and_seed() -> None:
    shape = (1000, 300)
    numbers = unsplit("a", shape, seed=1)
    assert numbers.mean().item() == pytest.approx(0, abs=0.01)
    assert numbers.std().item() == pytest.approx(1, abs=0.01)
    assert (numbers.abs() > 3).float().mean().item() == pytest.approx(0.0027, abs=5e-4)
    for other in (unsplit("b", shape, 1), unsplit("a", shape, 2)):
        correlation = (numbers * other).mean().item()
        assert abs(correlation) < 0.01
    assert len(set(numbers.flatten().tolist())) > 0.98 * numbers.numel()


def test_gpt2s_deviations() -> None:
    shape = torch.Size([96, 24])
    plain = initial_weight("decoder.layers.0.mlp.linear_fc1.weight", shape, Part(), MODEL, 1)
    assert plain.std().item() == pytest.approx(0.02, rel=0.06)
    for name, inputs in (("self_attention.linear_proj.weight", 24), ("mlp.linear_fc2.weight", 96)):
        shape = torch.Size([24, inputs])
        residual = initial_weight(f"decoder.layers.3.{name}", shape, Part(), MODEL, 1)
        assert residual.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.06)
    norm = torch.Size([24])
    assert torch.equal(initial_weight("x.weight", norm, Part(), MODEL, 1), torch.ones(24))
    assert torch.equal(initial_weight("x.bias", norm, Part(), MODEL, 1), torch.zeros(24))


def test_padding_of_the_vocabulary_is_zero_on_whichever_rank_it_is() -> None:
    name = "embedding.word_embeddings.weight"
    assert MODEL.padded_vocab(4) == 128
    pieces = [
        initial_weight(name, torch.Size([32, 24]), Part(0, index, 4), MODEL, 1)
        for index in range(4)
    ]
    whole = torch.cat(pieces)
    assert torch.equal(whole[100:], torch.zeros(28, 24))
    assert (whole[:100] != 0).all()


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_each_half_of_a_gated_mlp_is_split(parts: int) -> None:
    whole, rows = unsplit("w", (24, 5), seed=1), 24 // parts
    here = torch.Size([rows, 5])
    for index in range(parts):
        part = Part(0, index, parts, blocks=2)
        shard = normal_part("w", here, part, (24, 5), seed=1)
        own = slice(index * rows // 2, (index + 1) * rows // 2)
        assert torch.equal(shard, torch.cat([whole[:12][own], whole[12:][own]]))
        assert torch.equal(part.of(whole, here), shard)
