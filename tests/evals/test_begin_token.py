"""What a model is asked where its tokenizer has a token that begins a text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import tokenizers

from corpus.tokenizer.special_tokens import SpecialTokens
from corpus.tokenizer.tokenizer import Tokenizer
from evals.harness import HarnessModel
from evals.language_model import LanguageModel
from evals.ranks import DistributedModel
from tests.asking import tokenizer_json

CONTEXT = 12


class Asked:
    """Ranks that note what they are asked, and say "b", then that a turn is over."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.model = SimpleNamespace(shape=SimpleNamespace(context=CONTEXT))
        self.rows: list[list[int]] = []

    def run(self, question: Any, progress: Any = None) -> list[Any]:
        """The same answer to each row."""
        if hasattr(question, "prompts"):
            self.rows = list(question.prompts)
            return [[*self.tokenizer.encode("b"), max(self.tokenizer.ends)] for _ in self.rows]
        self.rows = list(question.rows)
        return [(-1.0, True) for _ in self.rows]


def asked(begin: str | None) -> tuple[Asked, LanguageModel]:
    inner = tokenizers.Tokenizer.from_str(tokenizer_json())
    inner.add_special_tokens(["<s>", "<turn>"])
    special = SpecialTokens(begin=begin, end="<|endoftext|>", stops=frozenset({"<turn>"}))
    ranks = Asked(Tokenizer(inner, name="test", special=special))
    return ranks, LanguageModel(cast(DistributedModel, ranks))


def test_a_prompt_begins_with_it() -> None:
    ranks, model = asked("<s>")
    assert model.generate(["a"], 1) == ["b"]  # without <turn>, which ended it
    assert ranks.rows == [[*ranks.tokenizer.begin, *ranks.tokenizer.encode("a")]]
    model.likelihoods([("a ", "b"), ("", "b")])
    first = ranks.tokenizer.begin
    assert ranks.rows == [[*first, *ranks.tokenizer.encode(text)] for text in ("a b", "b")]


def test_without_it_a_text_without_context_follows_an_end() -> None:
    ranks, model = asked(None)
    model.likelihoods([("a", "b"), ("", "b")])
    encode, end = ranks.tokenizer.encode, ranks.tokenizer.end_of_text
    assert ranks.rows == [encode("ab"), [end, *encode("b")]]


def test_the_harness_begins_with_it_once() -> None:
    ranks, model = asked("<s>")
    harness = HarnessModel(model)
    encode, first = ranks.tokenizer.encode, ranks.tokenizer.begin
    assert harness.tok_encode("a") == [*first, *encode("a")]
    harness.loglikelihood_rolling([SimpleNamespace(args=("a",))])
    assert ranks.rows == [[*first, *encode("a")]]
