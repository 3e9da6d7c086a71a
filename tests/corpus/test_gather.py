from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.schema import CorpusConfig
from corpus.documents import Document
from corpus.gather import describe, gather


def texts(corpus: CorpusConfig) -> list[str]:
    return ["".join(document.pieces()) for document in gather(corpus, print)]


def test_a_folder_is_read_in_the_order_of_its_names(corpus: CorpusConfig, tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.MD", "a/y.txt", "c.bin", ".git/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    assert texts(replace(corpus, text=str(tmp_path))) == ["a/y.txt", "a/z.MD", "b.txt"]


def test_a_file_may_be_called_anything(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "words.dat").write_text("some words")
    assert texts(replace(corpus, text=str(tmp_path / "words.dat"))) == ["some words"]


def test_the_sources_are_described() -> None:
    one = Document(name="a", source="books", origin=b"", digest="", stop=1_500_000)
    two = replace(one, source="code", stop=40_000)
    assert describe([one, one, two]) == "books (2 documents, 3.00 MB), code (1 document, 0.04 MB)"


def test_a_missing_path_is_refused(corpus: CorpusConfig) -> None:
    with pytest.raises(InputError, match=r"^corpus\.text: no file or folder /no/such$"):
        gather(replace(corpus, text="/no/such"), print)


def test_an_empty_file_is_refused(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InputError, match=r"^corpus\.text: .*empty\.txt is empty$"):
        gather(replace(corpus, text=str(tmp_path / "empty.txt")), print)


def test_a_folder_without_text_is_refused(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "blank.txt").write_text("\n")
    with pytest.raises(InputError, match=r"holds no text in files that end in \.txt \.md"):
        gather(replace(corpus, text=str(tmp_path)), print)


def test_a_file_that_is_not_utf8_is_named(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8 text \(byte 0xe9 at offset 3\)"):
        gather(replace(corpus, text=str(tmp_path)), print)


def test_the_default_corpus_is_cut(corpus: CorpusConfig) -> None:
    documents = gather(replace(corpus, text=None, max_bytes=50_000), print)
    assert 25_000 < sum(document.size for document in documents) <= 50_000


def test_a_default_corpus_of_nothing_is_refused(corpus: CorpusConfig) -> None:
    with pytest.raises(InputError, match=r"corpus\.max_bytes=10 "):
        gather(replace(corpus, text=None, max_bytes=10), print)
