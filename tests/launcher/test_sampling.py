from __future__ import annotations

import torch

from launcher.sampling import sample

LOGITS = torch.log(torch.tensor([0.1, 0.5, 0.3, 0.1]))


def draws(temperature: float, top_p: float, count: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = [sample(LOGITS, temperature, top_p, generator) for _ in range(count)]
    return torch.bincount(torch.tensor(tokens), minlength=4) / count


def test_zero_temperature_takes_the_likeliest() -> None:
    assert draws(0.0, 1.0, 5).tolist() == [0, 1, 0, 0]


def test_draws_follow_the_probabilities() -> None:
    torch.testing.assert_close(draws(1.0, 1.0), LOGITS.exp(), atol=0.03, rtol=0)


def test_the_nucleus_is_the_fewest_that_reach_top_p() -> None:
    assert draws(1.0, 0.5).tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(
        draws(1.0, 0.6), torch.tensor([0, 0.625, 0.375, 0]), atol=0.03, rtol=0
    )


def test_temperature_flattens() -> None:
    flat = draws(10.0, 1.0)
    assert flat.max() < 0.35
    assert flat.min() > 0.15
