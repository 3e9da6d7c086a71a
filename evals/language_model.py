"""The model interface of evaluations: text in, likelihoods or text out. Only rank 0 has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corpus.tokenizer.tokenizer import Tokenizer
from evals.ranks import DistributedModel, GenerationRequest, ScoringRequest
from parallel.inference.decoding import GREEDY, Draw, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """The likelihood of a continuation given its context.

    Attributes:
        value: sum of its tokens' log-probabilities, in nats.
        greedy: whether each of its tokens was the most likely.
        tokens: how many it has.
    """

    value: float
    greedy: bool
    tokens: int


class LanguageModel:
    """Encodes texts, runs all ranks, decodes; `progress` is called with each batch's count."""

    def __init__(
        self, ranks: DistributedModel, progress: Callable[[int], None] | None = None
    ) -> None:
        self._ranks = ranks
        self.tokenizer: Tokenizer = ranks.tokenizer
        self.context = ranks.model.shape.context
        self._progress = progress

    @property
    def start(self) -> Tokens:
        """What text without context follows: the token that begins a text, else end-of-text."""
        return self.tokenizer.begin or [self.tokenizer.end_of_text]

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """The likelihood of each (context, continuation), in order.

        As defined by EleutherAI's harness: trailing spaces of a context belong to the continuation,
        an empty context becomes `start`, and only the newest tokens count if not all fit into the
        model's context.
        """
        encoded = [self.encode_pair(*pair) for pair in pairs]
        return self.token_likelihoods(encoded)

    def token_likelihoods(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[Likelihood]:
        """Like `likelihoods`, for (context, continuation) pairs of token ids."""
        rows, counts = [], []
        for context, continuation in pairs:
            row = [*(context or self.start), *continuation]
            rows.append(row[-(self.context + 1) :])
            counts.append(min(len(continuation), len(rows[-1]) - 1))
        asked = ScoringRequest(rows=rows, counts=counts)
        return [
            Likelihood(value=value, greedy=greedy, tokens=count)
            for count, (value, greedy) in zip(
                counts, self._ranks.run(asked, progress=self._progress), strict=True
            )
        ]

    def encode_pair(self, context: str, continuation: str) -> tuple[Tokens, Tokens]:
        """Encodes both, moving spaces at the context's end to the continuation."""
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        whole = self.tokenizer.encode_prompt(context + continuation)
        before = self.tokenizer.encode_prompt(context)
        return before, whole[len(before) :]

    def generate(
        self,
        prompts: Sequence[str],
        limit: int,
        stops: Sequence[str] = (),
        *,
        draw: Draw = GREEDY,
        beams: int = 0,
    ) -> list[str]:
        """The continuation of each prompt, without the stop string that ended it.

        A prompt that leaves less than `limit` tokens of the context is truncated to its end.
        """
        room = self.context - min(limit, self.context - 1)
        encoded = [self.tokenizer.encode_prompt(prompt) for prompt in prompts]
        asked = GenerationRequest(
            prompts=[tokens[-room:] or self.start for tokens in encoded],
            limit=limit,
            stops=tuple(stops),
            draw=draw,
            beams=beams,
        )
        return [self._text(it, stops) for it in self._ranks.run(asked, progress=self._progress)]

    def _text(self, tokens: Tokens, stops: Sequence[str]) -> str:
        if tokens and tokens[-1] in self.tokenizer.ends:
            tokens = tokens[:-1]
        text = self.tokenizer.decode(tokens)
        return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
