from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.contamination.hashing import hash_words
from corpus.contamination.words import encode, fold, separators, squeeze, words

ODD = (
    "aB1_-'\u2019\u2014 \n\t\x00\x1c\x85\u00a0\u3000éÉßİi\u0307ȺⱥȾⱦÅЖж北ﬁ²😀𐐀𐐨"
    "\u03a3\u03c3\u03c2\u212a\u200b\ufeff\ud800"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't  stop--now !", ["dont", "stopnow"]),
        ("", []),
        (" -- \n...", []),
        ("ΣΊΣΥΦΟΣ", ["σίσυφοσ"]),  # each letter by itself: no final sigma
        ("1,000.5 m²", ["10005", "m²"]),
        ("a\u00a0b\u3000c\x1cd", ["a", "b", "c", "d"]),
        ("zero\u200bwidth \u201cQuoted\u201d", ["zerowidth", "quoted"]),
        ("cafe\u0301 نَص", ["cafe\u0301", "نَص"]),  # marks stay
    ],
)
def test_a_word_is_lower_case_without_punctuation(text: str, expected: list[str]) -> None:
    assert [word.text for word in words(text)] == expected


def test_a_word_is_where_its_kept_characters_are() -> None:
    assert [(word.start, word.stop) for word in words(' "Don\'t!" (no)')] == [(2, 7), (11, 13)]


@given(st.text(alphabet=ODD) | st.text())
def test_equal_words_and_no_others_are_squeezed_to_equal_bytes(text: str) -> None:
    fast = [each for each in squeeze(fold(encode(text))).split(b" ") if each]
    slow = [word.text for word in words(text)]
    again = [squeeze(fold(encode(word))) for word in slow]
    assert fast == again


def test_every_character_is_folded_as_the_slow_way_has_it() -> None:
    """The first planes of Unicode, which have all but rare ideographs."""
    every = [chr(code) for code in range(0x20000)]
    kept = [each for each in every if unicodedata.category(each)[0] in "LNM"]
    lower = "\n".join(each.lower() for each in kept)
    assert squeeze(fold(encode("\n".join(kept)))) == squeeze(fold(encode(lower)))
    spellings = squeeze(fold(encode(lower))).split(b" ")
    assert len(set(spellings)) == len(set(lower.split("\n")))
    rest = "".join(set(every) - set(kept))
    assert squeeze(fold(encode(rest))) == b" " * sum(each.isspace() for each in rest)


@given(st.text(alphabet=ODD))
def test_there_is_a_separator_for_each_white_space(text: str) -> None:
    folded = fold(encode(text))
    ends = [
        len(encode(text[: number + 1])) - 1 for number, each in enumerate(text) if each.isspace()
    ]
    assert separators(folded).tolist() == ends
    assert squeeze(folded).count(b" ") == len(ends)


@given(st.lists(st.sampled_from(["", "a", "ab", "abcdefgh", "abcdefghi", "é" * 9, "b"])))
def test_equal_words_have_equal_hashes_wherever_they_stand(parts: list[str]) -> None:
    hashed = hash_words(" ".join(parts).encode())
    alone = [hash_words(part.encode()).hashes for part in parts if part]
    assert hashed.hashes.tolist() == [int(each[0]) for each in alone]
    assert hashed.tokens.tolist() == [number for number, part in enumerate(parts) if part]
    assert len({int(each[0]) for each in alone}) == len({part for part in parts if part})
