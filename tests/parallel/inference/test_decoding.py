"""Which tokens are drawn, and what beam search finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.schema import DeviceName, Precision
from configs.settings.network import AttentionPattern
from models.shape import ModelShape
from parallel.inference.decoding import GREEDY, Draw, beam_search, generate, sample
from parallel.layout import Layout
from tests import mixtures, training
from tests.asking import large_weights
from tests.parallel.engines.megatron.test_parity import name
from tests.parallel.inference.test_model import LAYOUTS
from tests.pool import RankPool

DENSE = replace(training.SHAPE, attention=AttentionPattern.dense, window=training.SHAPE.context)
# All ranks share the queries' groups, of which there are as many as ranks.
EXPERTS = replace(mixtures.SAID, query_groups=4)
LOGITS = torch.log(torch.tensor([0.1, 0.5, 0.3, 0.1]))
PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5], [35, 89]]
LIMIT = 8


def draws(temperature: float, top_p: float, count: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = [sample(LOGITS, temperature, top_p, generator) for _ in range(count)]
    return torch.bincount(torch.tensor(tokens), minlength=4) / count


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


def decoded(layout: Layout, shape: ModelShape) -> Any:
    """A job: what follows the prompts in several ways."""
    from parallel.inference.model import InferenceModel
    from parallel.runtime.device import Device
    from parallel.runtime.process_groups import process_groups

    device = Device(DeviceName.cpu, torch.device("cpu"), "gloo")
    drawn = Draw(temperature=1.0, top_p=0.9, seed=3)

    def never(_row: int, _tokens: list[int]) -> bool:
        return False

    def at_an_even_one(_row: int, tokens: list[int]) -> bool:
        return tokens[-1] % 2 == 0

    with process_groups(layout, 0):
        model = InferenceModel(shape, layout, precision=Precision.float32, device=device)
        model.take(large_weights(shape))
        return {
            "greedy": generate(model, PROMPTS, LIMIT, GREEDY, never),
            "alone": [generate(model, [it], LIMIT, GREEDY, never)[0] for it in PROMPTS],
            "drawn": generate(model, PROMPTS, LIMIT, drawn, never),
            "drawn alone": [
                generate(model, [it], LIMIT, drawn, never, numbers=[row])[0]
                for row, it in enumerate(PROMPTS)
            ],
            "ended": generate(model, PROMPTS, LIMIT, GREEDY, at_an_even_one),
            "full": generate(model, PROMPTS, 100, GREEDY, never),
            "slid": generate(model, PROMPTS, 3 * shape.context, GREEDY, never, slides=True),
            "one beam": beam_search(model, PROMPTS, LIMIT, never, width=1),
            "beams": beam_search(model, PROMPTS, LIMIT, never, width=4),
            "beams ended": beam_search(model, PROMPTS, LIMIT, at_an_even_one, width=4),
        }


@pytest.fixture(scope="module", params=[DENSE, EXPERTS], ids=["dense", "experts"])
def shape(request: pytest.FixtureRequest) -> ModelShape:
    found: ModelShape = request.param
    return found


@pytest.fixture(scope="module")
def one_rank(ranks: RankPool, shape: ModelShape) -> Any:
    return ranks.run(1, decoded, Layout(), shape)[0]


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=name)
def test_tokens_are_the_same_under_every_layout(
    ranks: RankPool, one_rank: Any, layout: Layout, shape: ModelShape
) -> None:
    for found in ranks.run(layout.world_size, decoded, layout, shape):
        assert found == one_rank


def test_rows_of_a_batch_do_not_matter_to_each_other(one_rank: Any) -> None:
    assert one_rank["alone"] == one_rank["greedy"]
    assert one_rank["drawn alone"] == one_rank["drawn"]
    assert one_rank["drawn"] != one_rank["greedy"]
    assert len({tuple(row) for row in one_rank["drawn"]}) == len(PROMPTS)


def test_a_row_ends_where_it_should(one_rank: Any) -> None:
    for whole, ended in zip(one_rank["greedy"], one_rank["ended"], strict=True):
        even = [place for place, token in enumerate(whole) if token % 2 == 0]
        assert ended == (whole[: even[0] + 1] if even else whole)
    for prompt, full in zip(PROMPTS, one_rank["full"], strict=True):
        # The token after a full context is the last.
        assert len(prompt) + len(full) == DENSE.context + 1
    for full, slid in zip(one_rank["full"], one_rank["slid"], strict=True):
        assert len(slid) == 3 * DENSE.context
        assert slid[: len(full)] == full


def test_tokens_and_beams_are_hugging_faces(
    one_rank: Any, shape: ModelShape, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    from models.huggingface.writing import save

    save(large_weights(shape), shape, tmp_path)
    end = shape.vocab - 1
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, bos_token_id=end, eos_token_id=end)
    for prompt, greedy, beams in zip(PROMPTS, one_rank["greedy"], one_rank["beams"], strict=True):
        tokens = torch.tensor([prompt])
        for width, ours in ((1, greedy), (4, beams)):
            found = theirs.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                num_beams=width,
                do_sample=False,
                min_new_tokens=LIMIT,
                max_new_tokens=LIMIT,
                pad_token_id=end,
            )
            assert found[0, len(prompt) :].tolist() == ours
    assert one_rank["one beam"] == one_rank["greedy"]
    assert all(
        all(token % 2 for token in row[:-1]) and (len(row) == LIMIT or row[-1] % 2 == 0)
        for row in one_rank["beams ended"]
    )
