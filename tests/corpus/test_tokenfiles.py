from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpus import documents, tokenfiles
from corpus.cache import Prepared
from corpus.documents import Document, examine
from corpus.epoch import open_tokens
from corpus.tokenfiles import write_tokens
from corpus.tokenizer import Tokenizer

TEXTS = ["the ranks stood\n" * 40, "x", "in a phalanx, <|endoftext|> together 北京\n" * 25]


@pytest.fixture(scope="module")
def tokenizer(prepared: Prepared) -> Tokenizer:
    return Tokenizer.load(prepared.tokenizer)


def in_memory(text: str) -> Document:
    found = examine(text.encode(), name="memory", source="test")
    assert found is not None
    return found


def test_each_document_is_its_tokens_and_an_end(tokenizer: Tokenizer, tmp_path: Path) -> None:
    counts = write_tokens(tmp_path / "out", [in_memory(text) for text in TEXTS], tokenizer)
    tokens = open_tokens(tmp_path / "out")
    expected = [[*tokenizer.encode(text), tokenizer.end_of_text] for text in TEXTS]
    assert [tokens[number].tolist() for number in range(len(tokens))] == expected
    assert counts == [len(each) for each in expected]


def test_batches_and_pieces_do_not_show(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [in_memory(text) for text in TEXTS]
    write_tokens(tmp_path / "whole", every, tokenizer)
    monkeypatch.setattr(documents.Document.pieces, "__defaults__", (20,))
    monkeypatch.setattr(tokenfiles, "BATCH", 30)
    write_tokens(tmp_path / "pieces", every, tokenizer)
    for suffix in (".bin", ".idx"):
        whole = (tmp_path / "whole").with_suffix(suffix)
        assert whole.read_bytes() == (tmp_path / "pieces").with_suffix(suffix).read_bytes()


def test_a_document_too_long_for_the_index_ends_once(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents.Document.pieces, "__defaults__", (20,))
    monkeypatch.setattr(tokenfiles, "LONGEST", 50)
    counts = write_tokens(tmp_path / "out", [in_memory(TEXTS[0])], tokenizer)
    tokens = open_tokens(tmp_path / "out")
    assert len(tokens) > 1
    together = np.concatenate([tokens[number] for number in range(len(tokens))]).tolist()
    assert together == [*tokenizer.encode(TEXTS[0]), tokenizer.end_of_text]
    assert counts == [len(together)]


@pytest.mark.parametrize(("size", "width"), [(50_257, 2), (65_499, 2), (70_000, 4)])
def test_tokens_take_two_bytes_if_the_vocabulary_allows(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, width: int
) -> None:
    monkeypatch.setattr(tokenizer, "size", size)
    counts = write_tokens(tmp_path / "out", [in_memory("together")], tokenizer)
    assert (tmp_path / "out.bin").stat().st_size == width * sum(counts)


def test_progress_counts_every_byte(tokenizer: Tokenizer, tmp_path: Path) -> None:
    told: list[int] = []
    every = [in_memory(text) for text in TEXTS]
    write_tokens(tmp_path / "out", every, tokenizer, told.append)
    assert sum(told) == sum(document.size for document in every)
