"""Tokenizers as they are published, made small here: what begins and ends a text in each."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from configs.errors import InputError
from configs.settings.network import ModelConfig
from corpus.tokenizer.encoder import byte_characters, encoder_of
from corpus.tokenizer.special_tokens import END_OF_TEXT
from corpus.tokenizer.tokenizer import Tokenizer
from corpus.tokenizer.vocabulary import choose

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(special: list[str], begin: str | None = None) -> tokenizers.Tokenizer:
    """Of the kind of Llama 3, Qwen and Pythia."""
    vocab = {character: number for number, character in enumerate(byte_characters())}
    vocab[";Ċ"] = len(vocab)
    inner = tokenizers.Tokenizer(models.BPE(vocab, [(";", "Ċ")]))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True) for token in special])
    if begin is not None:
        begins(inner, begin)
    return inner


def sentencepiece(special: list[str]) -> tokenizers.Tokenizer:
    """Of the kind of Llama 2 and Mistral."""
    vocab = {token: number for number, token in enumerate(["<unk>", *special, "▁", *"abcdefgh"])}
    for letter in "ijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789":
        vocab[letter] = len(vocab)
    inner = tokenizers.Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.add_special_tokens(["<unk>", *special])
    begins(inner, "<s>")
    return inner


def begins(inner: tokenizers.Tokenizer, token: str) -> None:
    inner.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, inner.token_to_id(token))]
    )


PUBLISHED = {
    "llama3": (
        byte_level(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], "<|begin_of_text|>"),
        ("<|begin_of_text|>", "<|end_of_text|>"),
    ),
    "qwen": (byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]), (None, "<|endoftext|>")),
    "pythia": (byte_level(["<|endoftext|>", "<|padding|>"]), (None, "<|endoftext|>")),
    "mistral": (sentencepiece(["<s>", "</s>"]), ("<s>", "</s>")),
}


def chosen(path: Path, model: ModelConfig, **settings: Any) -> Tokenizer:
    """As a preparation leaves it in its folder."""
    content = choose(replace(model, tokenizer=str(path), vocab=400, **settings)).make([])
    prepared = path.parent / "prepared.json"
    prepared.write_text(content, encoding="utf-8")
    return Tokenizer.load(prepared)


def says(tokenizer: Tokenizer) -> tuple[str | None, str, frozenset[str]]:
    return tokenizer.special.begin, tokenizer.special.end, tokenizer.special.stops


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """A folder whose files differ about what ends a text, as Qwen's do."""
    folder = tmp_path / "qwen"
    folder.mkdir()
    PUBLISHED["qwen"][0].save(str(folder / "tokenizer.json"))
    end = PUBLISHED["qwen"][0].token_to_id("<|endoftext|>")
    chat = PUBLISHED["qwen"][0].token_to_id("<|im_end|>")
    said = {"add_bos_token": False, "bos_token": None, "eos_token": {"content": "<|im_end|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [chat, end]}))
    (folder / "config.json").write_text(json.dumps({"bos_token_id": end, "eos_token_id": chat}))
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_bare_file_needs_no_settings(name: str, model: ModelConfig, tmp_path: Path) -> None:
    inner, (begin, end) = PUBLISHED[name]
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = chosen(tmp_path / "tokenizer.json", model)
    assert says(tokenizer) == (begin, end, frozenset())
    assert tokenizer.end_of_text == inner.token_to_id(end)
    assert tokenizer.encode_prompt("a bc") == inner.encode("a bc").ids  # as transformers encodes
    assert tokenizer.encode("a bc") == inner.encode("a bc", add_special_tokens=False).ids


def test_a_file_without_need_of_roles_stays_as_it_is(model: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    PUBLISHED["qwen"][0].save(str(path))
    assert choose(replace(model, tokenizer=str(path))).make([]) == path.read_text()


def test_a_file_prepared_before_there_were_roles_begins_no_text(tmp_path: Path) -> None:
    PUBLISHED["mistral"][0].save(str(tmp_path / "tokenizer.json"))
    assert says(Tokenizer.load(tmp_path / "tokenizer.json")) == (None, "</s>", frozenset())


def test_a_folder_says_what_ends_a_text(qwen: Path, model: ModelConfig) -> None:
    assert says(chosen(qwen, model)) == (None, "<|im_end|>", frozenset({"<|endoftext|>"}))
    tokenizer = chosen(qwen, model)
    assert tokenizer.ends == {tokenizer.end_of_text, tokenizer.end_of_text - 2}
    assert says(deepcopy(tokenizer)) == says(tokenizer)


def test_a_folder_says_whether_a_token_begins_a_text(qwen: Path, model: ModelConfig) -> None:
    said = {"add_bos_token": True, "eos_token": "<|im_end|>"}
    (qwen / "tokenizer_config.json").write_text(json.dumps(said))
    (qwen / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<|im_start|>"}))
    assert says(chosen(qwen, model))[:2] == ("<|im_start|>", "<|im_end|>")


def test_settings_have_the_last_word(qwen: Path, model: ModelConfig) -> None:
    asked = {"begin_token": "<|im_start|>", "end_token": "<|endoftext|>", "stop_tokens": []}
    tokenizer = chosen(qwen, model, **asked)
    assert says(tokenizer) == ("<|im_start|>", "<|endoftext|>", frozenset())
    # Other programs that read the file begin a text with it, too.
    theirs = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert theirs.encode("a").ids == tokenizer.encode_prompt("a")
    assert "roles" not in tokenizer.to_json()


def test_no_token_may_begin_a_text(model: ModelConfig, tmp_path: Path) -> None:
    PUBLISHED["mistral"][0].save(str(tmp_path / "tokenizer.json"))
    tokenizer = chosen(tmp_path / "tokenizer.json", model, begin_token="none")
    assert tokenizer.begin == []
    assert tokenizer.encode_prompt("a") == tokenizer.encode("a")


def test_roles_in_a_file_are_kept_and_changed(qwen: Path, model: ModelConfig) -> None:
    marked = qwen.parent / "prepared.json"
    before = says(chosen(qwen, model))
    content = marked.read_text()
    assert choose(replace(model, tokenizer=str(marked))).make([]) == content
    assert says(Tokenizer.load(marked)) == before
    assert says(chosen(marked, model, end_token="<|im_start|>"))[1] == "<|im_start|>"


def test_the_identity_changes_with_the_tokens(qwen: Path, model: ModelConfig) -> None:
    def identity(**settings: Any) -> str:
        return choose(replace(model, **settings)).identity

    found = [
        identity(tokenizer=tokenizer, vocab=vocab, end_token=end)
        for tokenizer, vocab in (("trained", 300), ("gpt2", 50_257), (str(qwen), 400))
        for end in (None, "<|endoftext|>")
    ]
    assert len(set(found)) == 6
    assert [found[0], found[2]] == ["trained 300", "gpt2"]  # as earlier caches have them


def test_a_trained_tokenizer_has_the_tokens_asked_for(model: ModelConfig, tmp_path: Path) -> None:
    asked = replace(model, begin_token="<s>", end_token="<end>", stop_tokens=["<turn>"])
    path = tmp_path / "tokenizer.json"
    path.write_text(choose(asked).make(["ranks of soldiers and their shields"]))
    assert says(Tokenizer.load(path)) == ("<s>", "<end>", frozenset({"<turn>"}))
    with pytest.raises(InputError, match=r"256 bytes and <\|endoftext\|>, <end>, .* need 260$"):
        choose(replace(asked, vocab=259))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (
            {"begin_token": "<|im_stat|>"},
            r"^model\.begin_token='<\|im_stat\|>': the tokenizer has no such token; "
            r"nearest: model\.begin_token='<\|im_start\|>'$",
        ),
        ({"end_token": "<|imend|>"}, r"nearest: model\.end_token='<\|im_end\|>'$"),
        ({"stop_tokens": ["<im_end>"]}, r"nearest: model\.stop_tokens=\['<\|im_end\|>'\]$"),
    ],
)
def test_a_name_that_the_tokenizer_lacks_is_refused(
    qwen: Path, model: ModelConfig, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        choose(replace(model, tokenizer=str(qwen), **settings))
    with pytest.raises(InputError, match=r"nearest: model\.end_token='<\|endoftext\|>'$"):
        choose(replace(model, tokenizer="gpt2", vocab=50_257, end_token="<|eot|>"))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("tokenizer_config.json", "{", r"^model\.tokenizer=\S+/qwen: tokenizer_config\.json: "),
        ("config.json", "[]", r"^model\.tokenizer=\S+/qwen: config\.json is not a JSON object$"),
        (
            "special_tokens_map.json",
            '{"bos_token": "<s>"}',
            r"/qwen: bos_token='<s>' in its special_tokens_map\.json: the tokenizer has no such",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused(
    qwen: Path, model: ModelConfig, name: str, content: str, what: str
) -> None:
    (qwen / name).write_text(content)
    with pytest.raises(InputError, match=what):
        choose(replace(model, tokenizer=str(qwen)))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, model: ModelConfig) -> None:
    with pytest.raises(InputError, match=r"^model\.tokenizer: no tokenizer\.json in the folder "):
        choose(replace(model, tokenizer=str(tmp_path)))


def test_a_tokenizer_that_ends_no_text_says_which_setting_helps(
    tmp_path: Path, model: ModelConfig
) -> None:
    path = tmp_path / "tokenizer.json"
    byte_level(["[SEP]"]).save(str(path))
    with pytest.raises(InputError, match=r"no end-of-text token .*; nearest: model\.end_token="):
        choose(replace(model, tokenizer=str(path)))
    assert says(chosen(path, model, end_token="[SEP]"))[1] == "[SEP]"


def test_the_ends_known_without_roles_stay_the_same() -> None:
    assert END_OF_TEXT == ("<|endoftext|>", "</s>")  # caches and checkpoints are read by them


@pytest.mark.parametrize("name", ["qwen", "mistral"])
def test_a_long_text_is_cut_where_its_tokens_allow(name: str) -> None:
    inner = tokenizers.Tokenizer.from_str(PUBLISHED[name][0].to_str())
    tokenizer = Tokenizer(inner, name=name)
    texts = ["ab;\n" * 40_000, "ab cd\n" * 30_000, "ab;\n\n cd 12\n" * 12_000]
    found = [ids.tolist() for ids in encoder_of(tokenizer).encode(texts)]
    assert found == tokenizer.encode_batch(texts)
