from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

from configs.errors import InputError
from corpus.store.prepared import Prepared
from corpus.tokenizer.tokenizer import StreamDecoder, Tokenizer


@pytest.fixture(scope="module")
def tokenizer(prepared: Prepared) -> Tokenizer:
    return Tokenizer.load(prepared.tokenizer)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A vocabulary of whole words that, unlike byte-level ones, drops the first space."""
    vocab = {"</s>": 0, "▁spear": 1, "▁and": 2, "▁shield": 3}
    inner = Inner(models.WordLevel(vocab, unk_token="</s>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.save(str(tmp_path / "words.json"))
    return tmp_path / "words.json"


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(token) for token in ids), decoder.flush()]


@given(st.text())
def test_text_survives(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_a_stream_is_the_text(tokenizer: Tokenizer, text: str) -> None:
    assert "".join(stream(tokenizer, tokenizer.encode(text))) == text


@given(st.lists(st.integers(0, 320)))
def test_a_stream_of_any_tokens_is_what_decode_says(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_character_appears_with_its_last_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🜁")
    assert len(ids) == 4
    assert stream(tokenizer, ids) == ["", "", "", "🜁", ""]


def test_a_stream_keeps_the_spaces_that_a_first_token_loses(words: Path) -> None:
    tokenizer = Tokenizer.load(words)
    assert stream(tokenizer, [1, 2, 3]) == ["spear", " and", " shield", ""]


def test_the_end_of_text_in_a_text_is_text(tokenizer: Tokenizer) -> None:
    text = "before<|endoftext|>after"
    ids = tokenizer.encode(text)
    assert tokenizer.end_of_text not in ids
    assert tokenizer.encode_batch([text]) == [ids]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([tokenizer.end_of_text]) == "<|endoftext|>"


def test_ids_of_the_padding_decode_to_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([tokenizer.size, tokenizer.size + 1]) == ""


def test_another_end_of_text_is_known(words: Path) -> None:
    assert Tokenizer.load(words).end_of_text == 0
    assert Tokenizer.load(words).size == 4


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.tokenizer: cannot read /no/such: No such file"):
        Tokenizer.load("/no/such")


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff"], ids=["cut", "other json", "binary"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^model\.tokenizer: .* is not a tokenizer\.json"):
        Tokenizer.load(path)


def test_a_tokenizer_that_cannot_end_a_text_is_refused(words: Path) -> None:
    content = json.loads(words.read_text())
    content["model"]["vocab"] = {"▁spear": 0}
    words.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"has no end-of-text token \(<\|endoftext\|> or </s>\)"):
        Tokenizer.load(words)


def test_a_file_that_is_too_large_or_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from configs import reading

    monkeypatch.setattr(reading, "LARGEST", 1000)
    (tmp_path / "large").write_bytes(b"{" * 1001)
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name, reason in (("large", "File too large"), ("endless", "is not a file")):
        with pytest.raises(InputError, match=rf"^model\.tokenizer: cannot read .*{name}: {reason}"):
            Tokenizer.load(tmp_path / name)
