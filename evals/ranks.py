"""Requests to a model that several ranks hold: one rank submits, all work.

Rank 0 runs the evaluation as a plain program; it broadcasts each request to all ranks, which
process it together. Data ranks hold replicas of the model and share the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from corpus.tokenizer.tokenizer import Tokenizer
from parallel.inference.decoding import GREEDY, Draw, Tokens, beam_search, generate
from parallel.inference.model import InferenceModel
from parallel.runtime.process_groups import data_group, data_rank

Progress = Callable[[int], None]
"""Called with the number of rows just finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringRequest:
    """Requests the likelihood of the last `counts` tokens of each row."""

    rows: list[Tokens]
    counts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """Requests a continuation of each prompt, until one of `stops` appears or the text ends."""

    prompts: list[Tokens]
    limit: int
    stops: tuple[str, ...] = ()
    draw: Draw = GREEDY
    beams: int = 0  # 0: no beam search
    penalty: float = 0.6
    slides: bool = False


Request = ScoringRequest | GenerationRequest


class DistributedModel:
    """The model's ranks. Rank 0 calls `run`, the others `serve`."""

    def __init__(
        self, model: InferenceModel, tokenizer: Tokenizer, tokens_at_once: int, data: int = 1
    ) -> None:
        """`tokens_at_once`: per batch, including padding, which bounds memory."""
        self.model = model
        self.tokenizer = tokenizer
        self._tokens_at_once = tokens_at_once
        self._data = data

    def run(
        self,
        question: Request,
        *,
        on_token: Callable[[int], None] | None = None,
        progress: Progress | None = None,
    ) -> list[Any]:
        """For scoring: (log-likelihood in nats, whether each token was the most likely) per row.
        For generation: the tokens after each prompt, including the one that ended it, if any.

        Args:
            token_told: called with each token of a single prompt as it is generated.
            progress: counts this data rank's rows only, times the data ranks.
        """
        self._tell(question)
        return self._answer(question, on_token, progress)

    def serve(self) -> None:
        """Processes requests until rank 0 has no more."""
        while (question := self._tell(None)) is not None:
            self._answer(question, None, None)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Lets rank 0 submit requests inside the block; releases the other ranks at its end."""
        yield
        self._tell(None)

    def _tell(self, question: Request | None) -> Request | None:
        request: list[Request | None] = [question]
        torch.distributed.broadcast_object_list(request, src=0)
        return request[0]

    def _answer(
        self,
        question: Request,
        on_token: Callable[[int], None] | None,
        progress: Progress | None,
    ) -> list[Any]:
        rows = question.rows if isinstance(question, ScoringRequest) else question.prompts
        own = range(data_rank(), len(rows), self._data)
        longest_first = sorted(own, key=lambda it: -len(rows[it]))
        room = 0 if isinstance(question, ScoringRequest) else question.limit
        found: dict[int, Any] = {}
        for batch in self._batches(longest_first, rows, room):
            if isinstance(question, ScoringRequest):
                answers: list[Any] = self._score(question, batch)
            else:
                answers = self._generate(question, batch, on_token)
            found.update(zip(batch, answers, strict=True))
            if progress is not None:
                progress(len(batch) * self._data)
        everyone: list[dict[int, Any]] = [found] * self._data
        if self._data > 1:
            torch.distributed.all_gather_object(everyone, found, group=data_group())
        together = {number: it for share in everyone for number, it in share.items()}
        return [together[number] for number in range(len(rows))]

    def _batches(self, order: list[int], rows: Sequence[Tokens], room: int) -> Iterator[list[int]]:
        """Groups rows of similar length into batches of `tokens_at_once`, including padding."""
        batch: list[int] = []
        for number in order:
            longest = len(rows[batch[0]]) + room if batch else 0
            if batch and longest * (len(batch) + 1) > self._tokens_at_once:
                yield batch
                batch = []
            batch.append(number)
        if batch:
            yield batch

    def _score(self, question: ScoringRequest, batch: list[int]) -> list[tuple[float, bool]]:
        rows = [question.rows[number] for number in batch]
        found = self.model.score(rows, [question.counts[number] for number in batch])
        return [(value, bool(greedy)) for value, greedy in found.tolist()]

    def _generate(
        self,
        question: GenerationRequest,
        batch: list[int],
        on_token: Callable[[int], None] | None,
    ) -> list[Tokens]:
        prompts = [question.prompts[number] for number in batch]

        def ended(_row: int, tokens: Tokens) -> bool:
            if on_token is not None:
                on_token(tokens[-1])
            return self._ends(tokens, question.stops)

        if question.beams:
            return beam_search(
                self.model,
                prompts,
                question.limit,
                ended,
                width=question.beams,
                penalty=question.penalty,
            )
        return generate(
            self.model,
            prompts,
            question.limit,
            question.draw,
            ended,
            numbers=batch,
            slides=question.slides,
        )

    def _ends(self, tokens: Tokens, stops: Sequence[str]) -> bool:
        if tokens[-1] in self.tokenizer.ends:
            return True
        # A character takes up to four tokens.
        tail = max((4 * len(stop) for stop in stops), default=0) + 4
        said = self.tokenizer.decode(tokens[-tail:]) if stops else ""
        return any(stop in said for stop in stops)
