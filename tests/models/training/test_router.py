"""The router against a formula written out token by token, losses' gradients included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from configs.settings.network import Balance, MoeConfig, RouterScore
from models.routing import capacity_of, choose, within_capacity
from models.shape import ModelShape
from parallel.layout import Layout
from tests import training
from tests.pool import RankPool
from tests.routing import MIXTURE

TOKENS, SAMPLES = MIXTURE.context, 4
CASES: dict[str, MoeConfig] = {
    "softmax": MIXTURE.moe,
    "not renormalised": replace(MIXTURE.moe, renormalise=False),
    "softmax of the chosen": replace(MIXTURE.moe, score=RouterScore.softmax_chosen),
    "sigmoid": replace(MIXTURE.moe, score=RouterScore.sigmoid, scale=2.5),
    "by batch": replace(MIXTURE.moe, balance=Balance.batch),
    "one choice": replace(MIXTURE.moe, top_k=1, renormalise=False),
}


def weights_by_hand(logits: list[float], moe: MoeConfig) -> dict[int, float]:
    """An expert's weight for each of a token's experts."""
    row = torch.tensor(logits, dtype=torch.float64)
    order = sorted(range(moe.experts), key=lambda expert: -logits[expert])[: moe.top_k]
    if moe.score is RouterScore.sigmoid:
        values = {expert: float(torch.sigmoid(row[expert])) for expert in order}
    else:
        over = row[order] if moe.score is RouterScore.softmax_chosen else row
        values = {expert: float(row[expert].exp() / over.exp().sum()) for expert in order}
    if moe.renormalise and moe.top_k > 1:
        values = {expert: value / sum(values.values()) for expert, value in values.items()}
    return {expert: moe.scale * value for expert, value in values.items()}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_the_formula(case: str) -> None:
    moe = CASES[case]
    logits = torch.randn(20, moe.experts, generator=torch.Generator().manual_seed(1))
    choice = choose(logits, moe)
    for token, row in enumerate(logits.tolist()):
        found = dict(
            zip(choice.experts[token].tolist(), choice.weights[token].tolist(), strict=True)
        )
        assert found == pytest.approx(weights_by_hand(row, moe), rel=1e-5)
        assert choice.scores[token].sum().item() == pytest.approx(1, rel=1e-5)


def test_a_bias_changes_the_choice_and_not_the_weights() -> None:
    moe = CASES["sigmoid"]
    logits = torch.randn(20, moe.experts, generator=torch.Generator().manual_seed(1))
    bias = torch.zeros(moe.experts)
    bias[5] = 10.0
    biased = choose(logits, moe, bias)
    assert (biased.experts[:, 0] == 5).all()
    values = logits.sigmoid().gather(1, biased.experts)
    expected = moe.scale * values / values.sum(1, keepdim=True)
    assert torch.allclose(biased.weights, expected)


def test_an_expert_takes_the_largest_weights_of_a_sequence() -> None:
    moe = replace(MIXTURE.moe, capacity=0.5, experts=4)
    logits = torch.randn(24, 3, moe.experts, generator=torch.Generator().manual_seed(2))
    weights, experts, _ = choose(logits, moe)
    kept = within_capacity(weights, experts, moe)
    assert capacity_of(moe, 24) == 6
    for sample in range(3):
        for expert in range(moe.experts):
            sent = experts[:, sample] == expert
            all_weights = sorted(weights[:, sample][sent].tolist(), reverse=True)
            taken = sorted(weights[:, sample][sent & kept[:, sample]].tolist(), reverse=True)
            assert taken == all_weights[:6]
    assert not kept.all()


def router_gradients(shape: ModelShape) -> tuple[Tensor, Tensor, Tensor, Any]:
    """A job: weights, and what the gradients of their weighted sum are, losses included."""
    from megatron.core.transformer.moe.moe_layer import get_default_pg_collection

    from models.training.router import Router

    with training.engine(Layout(micro_batch=SAMPLES), shape=shape) as engine:
        config = engine.chunks[0].config
        router = Router(config, get_default_pg_collection(), moe=shape.moe, layer=0)
        with torch.no_grad():
            router.weight.copy_(weight_of(shape))
        config.router_state.load_state({"load": [uneven(shape).tolist()] * shape.layers})
        hidden = hidden_states(shape).requires_grad_()
        weights, _ = router(hidden)
        from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

        MoEAuxLossAutoScaler.set_loss_scale(torch.ones(1))
        (weights * factors(shape)).sum().backward()
        assert hidden.grad is not None
        assert router.weight.grad is not None
        return weights.detach(), hidden.grad, router.weight.grad, config.router_state.end_step()


def hidden_states(shape: ModelShape) -> Tensor:
    return torch.randn(TOKENS, SAMPLES, shape.hidden, generator=torch.Generator().manual_seed(3))


def weight_of(shape: ModelShape) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return 0.3 * torch.randn(shape.moe.experts, shape.hidden, generator=generator)


def factors(shape: ModelShape) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(TOKENS * SAMPLES, shape.moe.experts, generator=generator)


def uneven(shape: ModelShape) -> Tensor:
    load = torch.arange(1.0, shape.moe.experts + 1)
    return load / load.sum()


def expected_gradients(shape: ModelShape) -> tuple[Tensor, Tensor, float, float]:
    """By autograd of the losses as papers write them, in double precision."""
    moe = shape.moe
    hidden = hidden_states(shape).double().requires_grad_()
    weight = weight_of(shape).double().requires_grad_()
    logits = hidden @ weight.T
    scores = (
        logits.sigmoid() / logits.sigmoid().sum(-1, keepdim=True)
        if moe.score is RouterScore.sigmoid
        else logits.softmax(-1)
    )
    chosen = torch.zeros_like(logits).scatter(-1, logits.topk(moe.top_k, -1).indices, 1.0)
    values = logits.sigmoid() if moe.score is RouterScore.sigmoid else logits.exp()
    if moe.score is RouterScore.softmax and not moe.renormalise:
        weights = scores * chosen
    elif moe.score is RouterScore.sigmoid and moe.top_k == 1:
        weights = values * chosen
    else:
        weights = values * chosen / (values * chosen).sum(-1, keepdim=True)
    total = (moe.scale * weights.flatten(0, 1) * factors(shape)).sum()
    balance = logits.new_zeros(())
    for sample in range(SAMPLES):
        load = chosen[:, sample].sum(0) / (TOKENS * moe.top_k)
        if moe.balance is Balance.batch:
            load = uneven(shape).double()
        balance = balance + moe.experts * (load * scores[:, sample].mean(0)).sum() / SAMPLES
    z_loss = logits.logsumexp(-1).square().mean()
    (total + moe.balance_weight * balance + moe.z_loss * z_loss).backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert weight.grad is not None
    return hidden.grad, weight.grad, balance.item(), z_loss.item()


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_losses(ranks: RankPool, case: str) -> None:
    shape = replace(MIXTURE, moe=replace(CASES[case], balance_weight=0.7, z_loss=0.2))
    [(weights, of_hidden, of_weight, routing)] = ranks.run(1, router_gradients, shape)
    hidden, weight, balance, z_loss = expected_gradients(shape)
    assert (weights != 0).sum(-1).eq(shape.moe.top_k).all()
    assert torch.allclose(of_hidden.double(), hidden, rtol=1e-4, atol=1e-6)
    assert torch.allclose(of_weight.double(), weight, rtol=1e-4, atol=1e-5)
    assert routing.balance_loss[0] == pytest.approx(balance, rel=1e-5)
    assert routing.z_loss[0] == pytest.approx(z_loss, rel=1e-5)
