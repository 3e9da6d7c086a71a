from __future__ import annotations

import json
import random
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from corpus.store.prepared import Prepared
from corpus.tokenizer.encoder import Encoder, encoder_of
from corpus.tokenizer.tokenizer import Tokenizer
from corpus.tokenizer.vocabulary import gpt2


@pytest.fixture(scope="module")
def gpt2_tokenizer() -> Tokenizer:
    return tokenizer(gpt2(50_257).make([]))


@pytest.fixture(scope="module")
def gpt2_encoder(gpt2_tokenizer: Tokenizer) -> Encoder:
    return encoder_of(gpt2_tokenizer)


def tokenizer(text: str) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(text), name="test")


def changed(given: Tokenizer, change: Callable[[dict[str, Any]], object]) -> Tokenizer:
    content = json.loads(given.to_json())
    change(content)
    return tokenizer(json.dumps(content))


def fast(encoder: Encoder) -> bool:
    return "Tiktoken" in type(encoder).__name__


def same(one: Tokenizer, encoder: Encoder, texts: list[str]) -> bool:
    return [ids.tolist() for ids in encoder.encode(texts)] == one.encode_batch(texts)


def test_gpt2s_first_words(gpt2_encoder: Encoder) -> None:
    assert fast(gpt2_encoder)
    assert gpt2_encoder.encode(["hello world"])[0].tolist() == [31373, 995]


def test_every_assigned_character(gpt2_tokenizer: Tokenizer, gpt2_encoder: Encoder) -> None:
    every = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) not in ("Cn", "Cs", "Co", "Lo")
    ]
    every += [chr(code) for code in range(0xAA, 0x30000, 7) if chr(code).isalpha()]
    texts = [
        "".join(f"a{c}b {c}{c}1" for c in every[at : at + 4096])
        for at in range(0, len(every), 4096)
    ]
    assert same(gpt2_tokenizer, gpt2_encoder, texts)


@given(st.text(max_size=60))
def test_any_text_is_as_the_tokenizer_has_it(text: str) -> None:
    one = _GPT2
    assert same(one, _FAST, [text, f"{text} {text}", ""])


_GPT2 = tokenizer(gpt2(50_257).make([]))
_FAST = encoder_of(_GPT2)


@pytest.mark.parametrize(
    "text", ["a" * 200_000, " " * 200_000 + "x", "\n\n" * 70_000, "ab" * 90_000]
)
def test_long_runs_are_neither_slow_nor_cut_wrongly(text: str) -> None:
    assert same(_GPT2, _FAST, [text])


def test_text_that_looks_special_is_text(gpt2_encoder: Encoder) -> None:
    assert len(gpt2_encoder.encode(["<|endoftext|>"])[0]) == 7


def test_a_trained_vocabulary_is_fast_too(prepared: Prepared, text_folder: Any) -> None:
    one = Tokenizer.load(prepared.tokenizer)
    encoder = encoder_of(one)
    assert fast(encoder)
    dice = random.Random(0)
    noise = ["".join(dice.choices(" etaoinshrd\nphalnx", k=50)) for _ in range(500)]
    texts = [path.read_text() for path in text_folder.rglob("*.txt")]
    assert same(one, encoder, [*noise, *texts])


def _lower(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Lowercase"}


def _prefix(content: dict[str, Any]) -> None:
    content["pre_tokenizer"]["add_prefix_space"] = True


def _word(content: dict[str, Any]) -> None:
    content["added_tokens"].append(
        {**content["added_tokens"][0], "id": 50_257, "content": "hello", "special": False}
    )


def _unreachable(content: dict[str, Any]) -> None:
    """A token that BPE makes otherwise: b and c go together before a and b do."""
    merges = [["b", "c"], ["a", "b"], ["ab", "c"]]
    content["model"]["merges"] = merges
    for number, pair in enumerate(merges):
        content["model"]["vocab"]["".join(pair)] = 60_000 + number


@pytest.mark.parametrize("change", [_lower, _prefix, _word, _unreachable])
def test_what_tiktoken_would_do_otherwise_is_left_to_tokenizers(
    change: Callable[[dict[str, Any]], None],
) -> None:
    one = changed(_GPT2, change)
    encoder = encoder_of(one)
    assert not fast(encoder)
    assert same(one, encoder, ["Hello abc hello", "", "x " * 40_000])
