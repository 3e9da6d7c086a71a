"""What counts as right, and how sure a score is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from configs.settings.asking import Scoring, TaskConfig
from evals.examples import Example
from evals.scoring import Answer, loosely, score_of
from launcher.command_line.compose import compose_run

EXAMPLES = [
    Example(context="", answers=(" a good day", " fine")),
    Example(context="", answers=("b",)),
]


def config(scoring: Scoring) -> TaskConfig:
    return replace(compose_run([]).tasks["two_digit_addition"], scoring=scoring)


def test_loose_answers_are_compared_as_triviaqa_does() -> None:
    assert loosely(" The  Beatles!") == loosely("beatles") == "beatles"
    assert loosely("an apple a day") == "apple day"


def test_the_error_is_that_of_a_mean() -> None:
    answers = [Answer(said="", score=float(right)) for right in (1, 1, 0, 1)]
    score = score_of(config(Scoring.match), answers, EXAMPLES * 2)
    assert score is not None
    assert score.value == 75
    # sqrt(p (1 - p) / (n - 1))
    assert score.error == pytest.approx(100 * math.sqrt(0.75 * 0.25 / 3))
    assert score.perplexity is None


def test_perplexity_is_of_whole_answers() -> None:
    answers = [
        Answer(said="", score=1.0, likelihood=-1.0),
        Answer(said="", score=0.0, likelihood=-3.0),
    ]
    score = score_of(config(Scoring.cloze), answers, EXAMPLES)
    assert score is not None
    assert score.perplexity == pytest.approx(math.exp(2))


def test_translations_have_sacrebleus_score() -> None:
    said = ["the cat sat on the mat today", "there is nothing new under the sun"]
    examples = [Example(context="", answers=(f" {text}",)) for text in said]
    perfect = score_of(
        config(Scoring.bleu), [Answer(said=text, score=None) for text in said], examples
    )
    worse = score_of(
        config(Scoring.bleu), [Answer(said=text[:-6], score=None) for text in said], examples
    )
    assert perfect is not None
    assert worse is not None
    assert perfect.value == pytest.approx(100)
    assert 0 < worse.value < 90
    assert worse.error > 0


def test_what_people_are_to_read_has_no_score() -> None:
    assert score_of(config(Scoring.none), [Answer(said="x", score=None)], EXAMPLES[:1]) is None
