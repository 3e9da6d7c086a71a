"""What a folder calls its special tokens comes back as it was, through a run's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corpus.tokenizer.vocabulary import choose
from tests import pretrained
from tests.cli import phalanx
from tests.runs import run_of

VOCAB = 300
NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
TOKENS = ["<|endoftext|>", "<s>", "<unk>", "<pad>"]
AT_FIRST: dict[str, Any] = {"add_bos_token": False}


@pytest.mark.parametrize(
    "declared",
    [
        # The names that a Llama 2 has, but nothing that puts <s> before a text.
        {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"},
        # As Qwen: a filler, and nothing that begins a text.
        {"bos_token": None, "eos_token": {"content": "<|endoftext|>"}, "pad_token": "<pad>"},
    ],
    ids=["llama", "qwen"],
)
def test_names_come_back(declared: dict[str, Any], tmp_path: Path) -> None:
    theirs, made, out = tmp_path / "theirs", tmp_path / "made", tmp_path / "out"
    pretrained.write(theirs, "llama2", vocab_size=VOCAB, eos_token_id=0)
    model = run_of(f"model.vocab={VOCAB} model.stop_tokens=[{','.join(TOKENS[1:])}]").model
    content = json.loads(choose(model).make(["some text"]))
    for token in content["added_tokens"]:
        token.pop("roles", None)  # as any other program writes it
    (theirs / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (theirs / "tokenizer_config.json").write_text(json.dumps({**AT_FIRST, **declared}))
    for words in ([f"convert.source={theirs}"], [f"convert.to={out}"]):
        done = phalanx("convert", *words, run_dir=made)
        assert done.status == 0, done.errors
    back = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    expected = {**declared, "eos_token": "<|endoftext|>"}
    assert [back.get(name) for name in NAMES] == [expected.get(name) for name in NAMES]
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    for name in ("bos_token", "eos_token", "pad_token"):
        assert config[f"{name}_id"] == ids.get(expected.get(name) or "")
