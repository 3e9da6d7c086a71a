from __future__ import annotations

import random

import numpy as np
import pytest

from corpus.filters.quality import learn, stays
from tests.runs import run_of

QUALITY = run_of().corpus.quality


def made(words: list[str], count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choices(words, k=60)) for _ in range(count)]


GOOD = ["the", "Ranks", "of", "soldiers", "stood", "in", "order", "and", "a", "phalanx"]
BAD = ["click", "here", "buy", "now", "the", "a", "cookies", "login", "free", "of"]


def test_curated_text_scores_high() -> None:
    classifier = learn(made(GOOD, 100, 1), made(BAD, 100, 2), QUALITY)
    assert classifier.scores(made(GOOD, 50, 3)).min() > 0.5
    assert classifier.scores(made(BAD, 50, 4)).max() < 0.5


def test_the_rule_is_the_papers() -> None:
    """As often as numpy.random.pareto(9) > 1 - score, for each score."""
    generator = np.random.default_rng(0)
    digests = generator.integers(0, 2**64, 100_000, dtype=np.uint64)
    for score in (0.0, 0.5, 0.9, 1.0):
        kept = stays(np.full(len(digests), score), digests, 9.0).mean()
        expected = (generator.pareto(9.0, 100_000) > 1 - score).mean()
        assert kept == pytest.approx(expected, abs=0.005)


def test_a_decision_depends_on_the_document_alone() -> None:
    digests = np.arange(128, dtype=np.uint64) * np.uint64(2**57)
    scores = np.full(len(digests), 0.8)
    whole = stays(scores, digests, 9.0)
    assert whole.any()
    assert not whole.all()
    assert (stays(scores[5:9], digests[5:9], 9.0) == whole[5:9]).all()
