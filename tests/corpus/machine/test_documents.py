from __future__ import annotations

from corpus.machine.documents import Named, chosen


def names(max_bytes: int, *texts: str) -> list[str]:
    documents = (Named(str(number), text) for number, text in enumerate(texts))
    return [document.name for document in chosen(documents, max_bytes)]


def test_blank_and_repeated_text_is_left_out() -> None:
    assert names(0, "one", " \n", "two", "one", "") == ["0", "2"]


def test_what_utf8_cannot_hold_is_left_out() -> None:
    assert names(0, "a \ud83d b", "fine") == ["1"]


def test_text_is_bounded_in_bytes() -> None:
    assert names(4, "né", "né", "x", "more") == ["0", "2"]


def test_a_long_document_does_not_end_a_sample() -> None:
    assert names(20, "x" * 30, "y" * 15, "z" * 6, "short") == ["1", "3"]


def test_a_full_sample_ends() -> None:
    def documents() -> list[Named]:
        return [Named("a", "x" * 19), Named("b", "yy"), Named("c", "z")]

    assert [each.name for each in chosen(iter(documents()), 20)] == ["a"]
