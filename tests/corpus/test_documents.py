from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from corpus import documents
from corpus.documents import Document, examine


def document(text: str | bytes) -> Document:
    content = text.encode() if isinstance(text, str) else text
    found = examine(content, name="memory", source="test")
    assert found is not None
    return found


@given(st.text(alphabet="ab \n\té北", min_size=1).map("x".__add__), st.integers(1, 9))
def test_pieces_are_the_text(text: str, size: int) -> None:
    pieces = list(document(text).pieces(size))
    assert "".join(pieces) == text
    assert all(len(piece) <= size for piece in pieces)


def test_pieces_are_cut_before_white_space_that_follows_a_word() -> None:
    pieces = list(document("one two  three\n\nfour").pieces(7))
    assert pieces == ["one two", "  three", "\n\nfour"]
    assert list(document("one  two").pieces(5)) == ["one", "  two"]


def test_a_character_across_two_blocks_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "BLOCK", 3)
    path = tmp_path / "text"
    path.write_text("né北京 and 🜁 more", encoding="utf-8")
    found = examine(path, name="file", source="test")
    assert found is not None
    assert "".join(found.pieces()) == "né北京 and 🜁 more"
    assert found.size == path.stat().st_size
    assert found.digest == document(path.read_bytes()).digest


@given(st.text(alphabet="ab \né北", min_size=1).map("x".__add__), st.floats(0.01, 0.5))
def test_a_divided_document_is_whole(text: str, fraction: float) -> None:
    head, tail = document(text).divided(fraction)
    parts = ["".join(part.pieces()) for part in (head, tail)]
    assert "".join(parts) == text
    if parts[1] and parts[0].count("\n"):
        assert parts[0].endswith("\n")


def test_the_tail_has_the_fraction_asked_for() -> None:
    head, tail = document("a line of text\n" * 100).divided(0.2)
    assert (head.size, tail.size) == (1200, 300)


def test_white_space_is_no_document() -> None:
    assert examine(b" \n\t\n", name="blank", source="test") is None


@pytest.mark.parametrize("block", [2, 1 << 20])
@pytest.mark.parametrize(
    ("content", "offset"),
    [(b"fine\xff", 4), (b"abc\xe5\x8cX", 3), (b"abcd\xe5\x8c", 4)],
    ids=["never valid", "interrupted", "cut short"],
)
def test_what_is_not_utf8_is_refused_with_its_offset(
    content: bytes, offset: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "BLOCK", block)
    with pytest.raises(InputError, match=rf"corpus\.text: bad is not UTF-8 .*offset {offset}\)"):
        examine(content, name="bad", source="test")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"corpus\.text: cannot read gone: No such file"):
        examine(tmp_path / "gone", name="gone", source="test")
