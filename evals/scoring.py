"""Scores answers by the paper's conventions: Brown et al. (2020), section 2.4."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from configs.settings.asking import Normalise, Scoring, TaskConfig
from evals.examples import Example
from evals.language_model import LanguageModel, Likelihood

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_BOOTSTRAPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Attributes:
    said: what the model generated or chose.
    score: of this question, 1 for right; None if questions have no individual score.
    likelihood: of the right answer, in nats; None if the model generated text.
    """

    said: str
    score: float | None
    likelihood: float | None = None


def answers_of(
    model: LanguageModel,
    config: TaskConfig,
    examples: Sequence[Example],
    prompts: Sequence[list[str]],
) -> list[Answer]:
    """The model's answers, with their scores.

    Args:
        prompts: what precedes each example's answer: one text, or one for each choice.
    """
    if config.scoring is Scoring.choice:
        return _chosen(model, config, examples, prompts)
    if config.scoring is Scoring.cloze:
        pairs = [(each[0], it.answers[0]) for each, it in zip(prompts, examples, strict=True)]
        return [
            Answer(said=answer if it.greedy else "", score=float(it.greedy), likelihood=it.value)
            for (_, answer), it in zip(pairs, model.likelihoods(pairs), strict=True)
        ]
    texts = model.generate(
        [each[0] for each in prompts], config.tokens, config.stop, beams=config.beams
    )
    return [
        Answer(said=text.strip(), score=_match(config.scoring, text, it.answers))
        for text, it in zip(texts, examples, strict=True)
    ]


def _match(scoring: Scoring, text: str, answers: Sequence[str]) -> float | None:
    if scoring in (Scoring.bleu, Scoring.none):
        return None
    alike = loosely if scoring is Scoring.loose_match else str.strip
    return float(alike(text) in {alike(answer) for answer in answers})


def loosely(answer: str) -> str:
    """Normalises as TriviaQA does: lower case, no punctuation, no articles, single spaces."""
    bare = "".join(it for it in answer.lower() if it not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _chosen(
    model: LanguageModel,
    config: TaskConfig,
    examples: Sequence[Example],
    prompts: Sequence[list[str]],
) -> list[Answer]:
    pairs = [
        (before, choice)
        for example, each in zip(examples, prompts, strict=True)
        for before, choice in zip(_for_choices(each, example), example.choices, strict=True)
    ]
    found = iter(model.likelihoods(pairs))
    alone: dict[str, Likelihood] = {}
    if config.normalise is Normalise.answer:
        distinct = sorted({choice for _, choice in pairs})
        asked = [(config.answer_context, choice) for choice in distinct]
        alone = dict(zip(distinct, model.likelihoods(asked), strict=True))
    answers = []
    for example in examples:
        likelihoods = [next(found) for _ in example.choices]
        values = [
            _normalised(config, it, choice, alone)
            for it, choice in zip(likelihoods, example.choices, strict=True)
        ]
        best = max(range(len(values)), key=values.__getitem__)
        said = example.contexts[best] if example.contexts else example.choices[best]
        right = float(best == example.gold)
        answers.append(
            Answer(said=said.strip(), score=right, likelihood=likelihoods[example.gold].value)
        )
    return answers


def _for_choices(prompts: list[str], example: Example) -> list[str]:
    return prompts if example.contexts else prompts * len(example.choices)


def _normalised(
    config: TaskConfig, found: Likelihood, choice: str, alone: dict[str, Likelihood]
) -> float:
    if config.normalise is Normalise.tokens:
        return found.value / max(found.tokens, 1)
    return found.value - alone[choice].value if alone else found.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score of several questions.

    Attributes:
        value: mean score in percent, or BLEU.
        error: its standard error: of a mean, or by bootstrap.
        perplexity: of the right answers, per answer as in the paper's LAMBADA; None: not computed.
    """

    value: float
    error: float
    count: int
    perplexity: float | None = None


def score_of(
    config: TaskConfig, answers: Sequence[Answer], examples: Sequence[Example]
) -> Score | None:
    """None if there is nothing to score."""
    if config.scoring is Scoring.none or not answers:
        return None
    if config.scoring is Scoring.bleu:
        return _bleu(answers, examples)
    scores = [100 * (it.score or 0.0) for it in answers]
    error = stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    perplexity = None
    if config.scoring is Scoring.cloze:
        perplexity = math.exp(min(-fmean(it.likelihood or 0.0 for it in answers), 700.0))
    return Score(value=fmean(scores), error=error, count=len(scores), perplexity=perplexity)


def _bleu(answers: Sequence[Answer], examples: Sequence[Example]) -> Score:
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU()
    said = [it.said for it in answers]
    most = max(len(example.answers) for example in examples)
    references = [
        [it.answers[min(place, len(it.answers) - 1)].strip() for it in examples]
        for place in range(most)
    ]
    found = metric.corpus_score(said, references, n_bootstrap=_BOOTSTRAPS if len(said) > 1 else 1)
    return Score(value=found.score, error=getattr(found, "_ci", 0.0) / 1.96, count=len(said))
