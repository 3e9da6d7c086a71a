from __future__ import annotations

from collections.abc import Iterator

import pytest

from corpus import installed
from corpus.documents import Document
from corpus.installed import LIBRARY, MANUAL, PACKAGES, installed_documents


@pytest.fixture(scope="module")
def everything() -> list[Document]:
    return list(installed_documents())


def test_prose_comes_first(everything: list[Document]) -> None:
    order = list(dict.fromkeys(document.source for document in everything))
    assert order == [MANUAL, PACKAGES, LIBRARY]


def test_nothing_is_there_twice(everything: list[Document]) -> None:
    assert len({document.digest for document in everything}) == len(everything)
    assert len({document.name for document in everything}) == len(everything)


def test_it_is_the_same_twice(everything: list[Document]) -> None:
    again = [(document.name, document.digest) for document in installed_documents()]
    assert again == [(document.name, document.digest) for document in everything]


def test_a_cut_leaves_a_fair_sample_of_the_library(everything: list[Document]) -> None:
    names = [document.name for document in everything if document.source == LIBRARY]
    first = {name.removeprefix("library/")[0] for name in names[: len(names) // 4]}
    assert {"a", "s", "u"} <= first


def test_there_are_no_tests_and_no_tables_in_it(everything: list[Document]) -> None:
    folders = {part for document in everything for part in document.name.split("/")[1:-1]}
    assert not folders & {"test", "tests", "encodings", "pydoc_data", "site-packages"}


def test_what_is_not_utf8_or_repeats_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def manual() -> Iterator[tuple[str, bytes]]:
        yield from [("a", b"words"), ("b", b"\xff"), ("c", b"words"), ("d", b"more")]

    monkeypatch.setattr(installed, "_manual", manual)
    monkeypatch.setattr(installed, "_packages", lambda: iter(()))
    monkeypatch.setattr(installed, "_library", lambda: iter(()))
    assert [document.name for document in installed_documents()] == ["a", "d"]
