"""Decoding: greedy, sampling, or beam search, under any layout.

Collective over the ranks that hold one model: all call it with the same prompts and obtain the same
tokens. The caller decides which token ends a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from parallel.inference.model import InferenceModel, Rows

Tokens = list[int]
Ended = Callable[[int, Tokens], bool]
"""Whether a row has ended: its number, and the tokens after its prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How tokens are chosen. Every row has its own generator, independent of other rows."""

    temperature: float = 0.0  # 0: the most likely token
    top_p: float = 1.0
    seed: int = 0


GREEDY = Draw()


def generate(
    model: InferenceModel,
    prompts: Sequence[Tokens],
    limit: int,
    draw: Draw,
    ended: Ended,
    *,
    numbers: Sequence[int] | None = None,
    slides: bool = False,
) -> list[Tokens]:
    """Continues each prompt: at most `limit` tokens, including the one that ended it.

    Args:
        numbers: global row numbers, which seed their sampling; None: counted from 0.
        slides: continue beyond the context, from its newer half; otherwise the row ends.
    """
    context = model.shape.context
    following: list[Tokens] = [[] for _ in prompts]
    generators = [_generator(draw.seed, row) for row in numbers or range(len(prompts))]
    alive = list(range(len(prompts))) if limit > 0 else []
    rows: Rows | None = None
    while alive:
        if rows is None:
            texts = [_window([*prompts[row], *following[row]], context) for row in alive]
            lengths = [len(text) for text in texts]
            rows = Rows(model, texts, min(max(lengths) + limit, context))
        drawn = partial(_drawn, draw=draw, generators=[generators[row] for row in alive])
        said = rows.choose(drawn, (len(alive),))
        tokens = [int(token) for token in said]
        going_on = []
        for number, (row, token) in enumerate(zip(alive, tokens, strict=True)):
            following[row].append(token)
            full = lengths[number] == context and not slides
            if not (ended(row, following[row]) or len(following[row]) == limit or full):
                going_on.append(number)
        if any(lengths[number] == context for number in going_on):
            rows = None  # which reads again what is left of the rows
        elif going_on:
            if len(going_on) < len(alive):
                rows.pick(going_on)
            rows.extend([tokens[number] for number in going_on])
        alive, lengths = [alive[n] for n in going_on], [lengths[n] + 1 for n in going_on]
    return following


def _window(tokens: Tokens, context: int) -> Tokens:
    return tokens if len(tokens) <= context else tokens[-max(context // 2, 1) :]


def _generator(seed: int, row: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 1_000_003 * row)


def _drawn(logits_BV: Tensor, *, draw: Draw, generators: Sequence[torch.Generator]) -> Tensor:
    if draw.temperature == 0:
        return logits_BV.argmax(1)
    drawn = [
        sample(logits, draw.temperature, draw.top_p, generator)
        for logits, generator in zip(logits_BV.cpu(), generators, strict=True)
    ]
    return torch.tensor(drawn)


def sample(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """One token of logits [vocabulary], from the nucleus.

    The nucleus is the smallest set of most likely tokens whose total probability is at least top_p
    (Holtzman et al. 2019).
    """
    probabilities, order = torch.softmax(logits.double() / temperature, -1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities[before >= top_p] = 0.0
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


@dataclass(slots=True)
class _Search:
    """The beam search of one prompt. `beams` are active, the best first; `over` have ended."""

    beams: list[tuple[float, Tokens]]
    over: list[tuple[float, Tokens]] = field(default_factory=list)
    done: bool = False

    def grow(
        self,
        candidates: list[list[float]],
        ended: Callable[[Tokens], bool],
        step: int,
        penalty: float,
    ) -> list[int]:
        """Takes the best candidates, (beam, token, score) each; returns the beams they extend."""
        width = len(self.beams)
        if self.done:
            return list(range(width))
        beams, parents = [], []
        for parent, token, score in candidates:
            grown = [*self.beams[int(parent)][1], int(token)]
            if score > -math.inf and ended(grown):
                self.over.append((score / _length(step, penalty), grown))
                score = -math.inf  # filler if too few are left
            beams.append((score, grown))
            parents.append(int(parent))
        best = sorted(range(len(beams)), key=lambda it: -beams[it][0])[:width]
        self.beams = [beams[it] for it in best]
        return [parents[it] for it in best]

    def look_ahead(self, limit: int, penalty: float) -> None:
        """Ends the search once no beam can exceed the sequences that have ended."""
        ends = sorted((score for score, _ in self.over), reverse=True)[: len(self.beams)]
        best_to_come = self.beams[0][0] / _length(limit, penalty)
        enough = len(ends) == len(self.beams) or best_to_come == -math.inf
        self.done = self.done or (enough and bool(ends) and ends[0] >= best_to_come)


def beam_search(
    model: InferenceModel,
    prompts: Sequence[Tokens],
    limit: int,
    ended: Ended,
    *,
    width: int = 4,
    penalty: float = 0.6,
) -> list[Tokens]:
    """Continues each prompt by beam search: of the sequences found, the one with the highest
    log-likelihood / ((5 + length) / 6) ** penalty (Wu et al. 2016, as in T5).
    """
    count = len(prompts)
    limit = min(limit, model.shape.context - max(map(len, prompts)) + 1)
    searches = [_Search([(0.0, []), *([(-math.inf, [])] * (width - 1))]) for _ in prompts]
    rows = Rows(model, prompts, max(map(len, prompts)) + limit)
    rows.pick([row for row in range(count) for _ in range(width)])
    for step in range(1, limit + 1):
        scores = torch.tensor(
            [[score for score, _ in search.beams] for search in searches], dtype=torch.float64
        )
        said = rows.choose(partial(_candidates, scores=scores), (count, 2 * width, 3))
        parents: list[int] = []
        for row, (search, candidates) in enumerate(zip(searches, said.tolist(), strict=True)):
            grown = search.grow(candidates, partial(ended, row), step, penalty)
            parents += [row * width + parent for parent in grown]
            search.look_ahead(limit, penalty)
        if all(search.done for search in searches) or step == limit:
            break
        rows.pick(parents)
        rows.extend([tokens[-1] for search in searches for _, tokens in search.beams])
    for search in searches:
        if not search.done:
            search.over += [(it / _length(len(ids), penalty), ids) for it, ids in search.beams]
    return [max(search.over)[1] for search in searches]


def _length(tokens: int, penalty: float) -> float:
    return float(((5 + tokens) / 6) ** penalty)


def _candidates(logits_BV: Tensor, *, scores: Tensor) -> Tensor:
    """[prompts, 2 width, 3]: beam, token and score of the best candidates."""
    vocab, width = logits_BV.shape[1], scores.shape[1]
    likelihoods = logits_BV.double().log_softmax(1).view(-1, width, vocab)
    together = (likelihoods + scores.to(likelihoods.device)[:, :, None]).flatten(1)
    best, places = together.topk(2 * width, 1)
    return torch.stack([(places // vocab).double(), (places % vocab).double(), best], 2)
