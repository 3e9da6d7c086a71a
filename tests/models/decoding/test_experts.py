"""Experts in a decoder: token by token and expert by expert, a layer says the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from configs.settings.network import MoeConfig, Residual, RouterScore
from models.decoding.decoder import Decoder, names_of
from models.decoding.experts import mixture
from models.layer_table import OUTPUT, ROUTER, WORDS
from models.shape import ModelShape
from tests import mixtures

SCORES = [
    MoeConfig(experts=6, top_k=2, score=RouterScore.softmax_chosen),
    MoeConfig(experts=6, top_k=2),
    MoeConfig(experts=6, top_k=2, renormalise=False, shared=16, dense_layers=3),
    MoeConfig(experts=6, top_k=1, score=RouterScore.sigmoid, capacity=1.0),
    MoeConfig(experts=4, top_k=4, scale=0.5, feed_forward=8),
]
SHAPES = [
    *(mixtures.SIGMOID, mixtures.BIASED, mixtures.SAID),
    *(replace(mixtures.SIGMOID, moe=moe) for moe in SCORES),
]
ROWS, TOKENS = 2, 9


def weights_of(shape: ModelShape) -> dict[str, Tensor]:
    """Random; attention adds nothing, so that the residual stream is what the MLPs made of it."""
    generator = torch.Generator().manual_seed(0)

    def weight(name: str) -> Tensor:
        size = shape.parameter(name).shape
        if "linear_proj.weight" in name or "linear_proj.bias" in name:
            return torch.zeros(size)
        return torch.randn(size, generator=generator) * 0.3 + ("norm" in name)

    return {name: weight(name) for name in names_of(range(shape.layers), shape)}


def normed(shape: ModelShape, weight: Tensor, x: Tensor) -> Tensor:
    return x / torch.sqrt(x.square().mean() + shape.norm_epsilon) * weight


def mlp(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Of one token's hidden state; SwiGLU."""

    def linear(which: str, inputs: Tensor) -> Tensor:
        out = w[f"{name}.{which}.weight"] @ inputs
        return out + w[f"{name}.{which}.bias"] if f"{name}.{which}.bias" in w else out

    gate, up = linear("linear_fc1", x).chunk(2)
    return linear("linear_fc2", F.silu(gate) * up)


def chosen(moe: MoeConfig, logits: list[float], bias: list[float]) -> dict[int, float]:
    """The weight of each chosen expert of one token, in plain arithmetic."""
    each = torch.tensor(logits, dtype=torch.float64)
    if moe.score is RouterScore.sigmoid:
        scores = [float(1 / (1 + torch.exp(-it))) for it in each]
    else:
        scores = [float(torch.exp(it) / torch.exp(each).sum()) for it in each]
    # With a bias, softmax_chosen compares logits.
    by = logits if moe.score is RouterScore.softmax_chosen else scores
    order = sorted(range(moe.experts), key=lambda expert: -(by[expert] + bias[expert]))
    found = {expert: scores[expert] for expert in order[: moe.top_k]}
    divided = moe.score is RouterScore.softmax_chosen or (moe.renormalise and moe.top_k > 1)
    total = sum(found.values()) if divided else 1.0
    return {expert: moe.scale * score / total for expert, score in found.items()}


def explicit(
    shape: ModelShape, weights: dict[str, Tensor], bias: Tensor | None, hidden: Tensor
) -> Tensor:
    """All layers on one token's hidden state, one expert at a time."""
    moe = shape.moe
    behind = shape.residual is Residual.post_norm
    for layer in range(shape.layers):
        start = f"decoder.layers.{layer}."
        w = {name.removeprefix(start): it for name, it in weights.items() if start in name}
        read = hidden if behind else normed(shape, w["pre_mlp_layernorm.weight"], hidden)
        if layer < moe.dense_layers:
            out = mlp(w, "mlp", read)
        else:
            logits = [float(row @ read) for row in w["mlp.router.weight"]]
            own = [0.0] * moe.experts if bias is None else bias[layer - moe.dense_layers].tolist()
            out = torch.zeros_like(hidden)
            for expert, share in chosen(moe, logits, own).items():
                out = out + share * mlp(w, f"mlp.experts.{expert}", read)
            if moe.shared:
                out = out + mlp(w, "mlp.shared_experts", read)
        hidden = hidden + (normed(shape, w["mlp.linear_fc2.norm.weight"], out) if behind else out)
    return hidden


def decoded(decoder: Decoder, hidden: Tensor) -> Tensor:
    return decoder.begin(hidden, torch.tensor([TOKENS] * ROWS), decoder.caches(0))


@torch.no_grad()
@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: mixtures.NAMES.get(shape, "") or None)
def test_a_layer_is_the_sum_of_what_each_token_chose(shape: ModelShape, biased: bool) -> None:
    weights, bias = weights_of(shape), mixtures.router_bias(shape) if biased else None
    decoder = Decoder(shape, range(shape.layers), weights)
    decoder.router_bias = bias
    hidden = torch.randn(ROWS, TOKENS, shape.hidden, generator=torch.Generator().manual_seed(2))
    found = decoded(decoder, hidden)
    for row in range(ROWS):
        for token in range(TOKENS):
            expected = explicit(shape, weights, bias, hidden[row, token])
            torch.testing.assert_close(found[row, token], expected, rtol=1e-4, atol=1e-4)
    if biased:
        decoder.router_bias = None
        alike = shape.moe.top_k == shape.moe.experts
        without = decoded(decoder, hidden)
        assert torch.allclose(without, found, atol=1e-4) == alike, "a bias changes choices"


@torch.no_grad()
def test_a_stage_takes_the_biases_of_its_own_layers() -> None:
    shape = mixtures.SIGMOID
    weights, bias = weights_of(shape), mixtures.router_bias(shape)
    hidden = torch.randn(ROWS, TOKENS, shape.hidden, generator=torch.Generator().manual_seed(3))
    whole, *stages = (
        Decoder(shape, layers, weights)
        for layers in (range(shape.layers), range(2), range(2, shape.layers))
    )
    through = hidden
    for decoder in (whole, *stages):
        decoder.router_bias = bias
    for stage in stages:
        through = decoded(stage, through)
    assert torch.equal(through, decoded(whole, hidden))


def test_in_half_precision_the_router_says_float32() -> None:
    """Its logits would tie in bf16, and a token go where float32 does not send it."""
    moe = MoeConfig(experts=4, top_k=1, score=RouterScore.softmax_chosen)
    generator = torch.Generator().manual_seed(4)
    read = torch.randn(200, 32, generator=generator).bfloat16()
    router = torch.randn(1, 32, generator=generator) + torch.randn(4, 32, generator=generator) / 99

    def number(name: str, rows: Tensor) -> Tensor:
        return torch.full_like(rows, float(name.rpartition(".")[2]))

    weights = {ROUTER: router.bfloat16()}
    found = mixture(weights, moe, read, None, number)[:, 0]
    expected = (read.float() @ router.bfloat16().float().t()).argmax(-1)
    assert torch.equal(found, expected.bfloat16())
    assert len(set(found.tolist())) == moe.experts
    assert not torch.equal((read @ router.bfloat16().t()).argmax(-1), expected)


def test_names_are_those_of_the_table() -> None:
    shape = mixtures.SIGMOID
    names = names_of(range(shape.layers), shape)
    assert len(set(names)) == len(names)
    assert {WORDS, OUTPUT, "decoder.layers.3.mlp.experts.5.linear_fc2.weight"} <= set(names)
    assert "decoder.layers.0.mlp.router.weight" not in names
    assert sum(torch.Size(shape.parameter(it).shape).numel() for it in names) == shape.parameters
