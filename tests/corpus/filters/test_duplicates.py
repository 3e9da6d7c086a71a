from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from configs.errors import InputError
from corpus.filters.duplicates import check, near_copies, signatures
from tests.runs import run_of

CONFIG = run_of().corpus.duplicates
WORDS = [f"word{number}" for number in range(500)]


def document(seed: int, words: int = 400) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def like(texts: list[str], droppable: list[bool] | None = None) -> list[int]:
    may = np.array([True] * len(texts) if droppable is None else droppable)
    return near_copies(signatures(texts, CONFIG), may, CONFIG).tolist()


def edited(words: list[str], every: int) -> list[str]:
    """One word in `every` is another."""
    return [f"other{n}" if n % every == 0 else word for n, word in enumerate(words)]


def test_near_copies_are_found_and_others_are_not() -> None:
    one, two = document(1), document(2)
    texts = [" ".join(each) for each in (one, two, one, edited(one, 100), edited(one, 3))]
    assert like(texts) == [-1, -1, 0, 0, -1]


def test_the_share_found_follows_the_similarity() -> None:
    """Jaccard similarity of 0.9 and more is found nearly always, of 0.5 never."""
    near, far = [], []
    for seed in range(40):
        one = document(seed, words=1_000)
        near.append(like([" ".join(one), " ".join(edited(one, 200))])[1])
        far.append(like([" ".join(one), " ".join(edited(one, 15))])[1])
    assert near.count(0) >= 38
    assert far == [-1] * 40


def test_what_may_not_be_dropped_stays() -> None:
    text = " ".join(document(1))
    assert like([text, text, text], [False, False, True]) == [-1, -1, 0]


def test_case_and_white_space_make_no_other_document() -> None:
    text = " ".join(document(1))
    assert like([text, text.upper().replace(" ", "\n")]) == [-1, 0]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [([], []), ([""], [-1]), (["", "one"], [-1, -1]), (["one two", "one two"], [-1, 0])],
)
def test_short_and_no_documents(texts: list[str], expected: list[int]) -> None:
    assert like(texts) == expected


def test_bands_that_do_not_divide_the_hashes_are_refused() -> None:
    with pytest.raises(InputError, match=r"bands=15 does not divide .*hashes=128; nearest: 8"):
        check(replace(CONFIG, bands=15))
