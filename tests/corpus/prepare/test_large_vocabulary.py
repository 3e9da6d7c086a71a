"""Corpora of vocabularies as large as Llama 3's and Qwen's, with tokens around each document."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig
from corpus.dataset.samples import Samples
from corpus.formats import text
from corpus.prepare.prepare import prepare
from corpus.store.prepared import Prepared
from corpus.tokenizer.encoder import byte_characters
from corpus.tokenizer.tokenizer import Tokenizer

BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"


def saved(folder: Path, size: int) -> Path:
    """A tokenizer.json of so many tokens, whose pairs "ra" and "in" have ids beyond 16 bits."""
    vocab = {character: number for number, character in enumerate(byte_characters())}
    vocab |= {f"filler{number}": number for number in range(len(vocab), size - 4)}
    vocab |= {"ra": size - 4, "in": size - 3}
    inner = tokenizers.Tokenizer(models.BPE(vocab, [("r", "a"), ("i", "n")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([BEGIN, END])
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, size - 2)]
    )
    inner.save(str(folder / "tokenizer.json"))
    return folder


def documents(prepared: Prepared, part: str) -> list[list[int]]:
    """The tokens of the one source's documents."""
    (source,) = prepared.sources
    prefix = prepared.tokens(source.name, part)
    whole = np.fromfile(f"{prefix}.bin", np.int32)
    end = Tokenizer.load(prepared.tokenizer).end_of_text
    return [each.tolist() for each in np.split(whole, np.flatnonzero(whole == end) + 1)[:-1]]


@pytest.mark.parametrize("size", [128_256, 151_936])
def test_ids_beyond_16_bits_reach_the_samples(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path, size: int
) -> None:
    large = replace(model, tokenizer=str(saved(tmp_path, size)), vocab=size)
    prepared = prepare(corpus, large)
    tokenizer = Tokenizer.load(prepared.tokenizer)
    assert (tokenizer.size, tokenizer.begin, tokenizer.end_of_text) == (size, [size - 2], size - 1)
    found = documents(prepared, "train") + documents(prepared, "validation")
    texts = [path.read_text() for path in Path(str(corpus.text)).rglob("*.txt")]
    expected = [[*tokenizer.encode_prompt(each), size - 1] for each in texts]
    assert sorted(found) == sorted(expected)
    (source,) = prepared.sources
    samples = Samples(prepared.tokens(source.name, "train"), context=16, seed=1, vocab=size)
    assert {size - 4, size - 3, size - 2, size - 1} < {int(it) for each in samples for it in each}


def test_a_document_in_several_parts_begins_once(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "PART", 1000)
    monkeypatch.setattr("corpus.sources.units.PART", 1000)
    monkeypatch.setattr("corpus.sources.units.SMALL", 1500)
    folder = tmp_path / "text"
    folder.mkdir()
    long = "".join(f"ranks in line {number}\n" for number in range(200))
    for number, each in enumerate([long, *(f"ranks {number}\n" * 60 for number in range(100))]):
        (folder / f"{number}.txt").write_text(each)
    size = 128_256
    large = replace(model, tokenizer=str(saved(tmp_path, size)), vocab=size)
    whole = replace(corpus, text=str(folder), validation_fraction=0.3, workers=1)
    prepared = prepare(whole, large)
    tokenizer = Tokenizer.load(prepared.tokenizer)
    assert [*tokenizer.encode_prompt(long), size - 1] in documents(prepared, "train")
    tails = prepare(replace(whole, validation_fraction=0.01), large)
    found = documents(tails, "train") + documents(tails, "validation")
    assert {each[0] for each in found} == {size - 2}
    assert len(found) > 2 * 101  # each is cut in two, and the long one more often
