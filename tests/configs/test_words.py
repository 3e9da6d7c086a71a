from __future__ import annotations

import pytest

from configs.words import counted, listed


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d"], "a, b, c and 1 more"),
        ([str(number) for number in range(5000)], "0, 1, 2 and 4,997 more"),
        ({"x": 1, "y": 2}, "x, y"),
    ],
)
def test_a_list_is_cut_and_says_how_much_is_missing(items: list[str], text: str) -> None:
    assert listed(items, most=3) == text


def test_sentences_have_their_own_mark_between_them() -> None:
    assert listed(["a is missing", "b is missing"], apart="; ") == "a is missing; b is missing"
    assert listed(["a is so"] * 9, most=1, apart="; ") == "a is so; and 8 more"


def test_one_is_no_plural() -> None:
    assert counted(1, "field", "fields") == "1 field"
    assert counted(1204, "field", "fields") == "1,204 fields"
