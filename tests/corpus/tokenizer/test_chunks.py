from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corpus.tokenizer.chunks import pieces


@given(st.text(alphabet="ab \n\u00e9\u3000", max_size=200), st.integers(1, 20))
def test_pieces_are_the_whole_and_small(text: str, size: int) -> None:
    cut = list(pieces(text, size))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= size for piece in cut)


def test_cuts_fall_before_white_space_after_something_else() -> None:
    assert list(pieces("one two  three four", 9)) == ["one two", "  three", " four"]
