from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.contamination import hashing, scan
from corpus.contamination.grams import GramTable, build_table
from corpus.contamination.scan import Hit, Scanner
from corpus.contamination.stretches import stretches
from corpus.contamination.words import words
from corpus.store.atomic import save_arrays

EXAMPLE = (
    "Call me Ishmael. Some years ago - never mind how long precisely - having little or no money "
    "in my purse, and nothing particular to interest me on shore"
)
THIRTEEN = "some years ago never mind how long precisely having little or no money"


def slow_scan(texts: Sequence[str], table: GramTable) -> list[Hit]:
    """What `Scanner` does, by dictionary."""
    grams = {tuple(table.words(number)): number for number in range(len(table))}
    hits = []
    for number, text in enumerate(texts):
        found = words(text)
        for length in {len(gram) for gram in grams}:
            for first in range(len(found) - length + 1):
                run = found[first : first + length]
                gram = grams.get(tuple(word.text for word in run))
                if gram is not None:
                    hits.append(Hit(number, gram, run[0].start, run[-1].stop))
    return sorted(hits, key=lambda hit: (hit.text, hit.start, hit.stop))


def found_in(text: str, table: GramTable) -> list[str]:
    return [text[hit.start : hit.stop] for hit in Scanner(table).scan([text])]


SOME = st.text(alphabet="aAbéÉİȺ北 \n\u00a0\u3000-\u2019\ud800\x00", max_size=60)


@settings(deadline=None, max_examples=300)
@given(st.lists(SOME, max_size=6), st.lists(st.tuples(SOME, st.integers(0, 5)), max_size=4))
def test_the_scan_finds_what_a_dictionary_finds(
    texts: list[str], examples: list[tuple[str, int]]
) -> None:
    table = build_table([text for text, _ in examples], [length for _, length in examples])
    assert Scanner(table).scan(texts) == slow_scan(texts, table)


@settings(deadline=None)
@given(st.lists(SOME, max_size=4), st.lists(SOME, max_size=4), st.integers(1, 40))
def test_nor_do_long_texts_change_that(texts: list[str], examples: list[str], block: int) -> None:
    table = build_table(examples, [1 + number for number in range(len(examples))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BATCH", block)
        assert Scanner(table).scan(texts) == slow_scan(texts, table)


@settings(deadline=None)
@given(st.lists(SOME, max_size=4), st.lists(SOME, max_size=4))
def test_nor_do_hashes_that_are_all_equal(texts: list[str], examples: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "MIX", 0)
        table = build_table(examples, [1 + number for number in range(len(examples))])
        assert Scanner(table).scan(texts) == slow_scan(texts, table)


def test_words_that_differ_only_far_from_their_ends_are_told_apart() -> None:
    """Their hashes are equal: it takes the comparison of the words."""
    one, other = "pre-a-determination", "pre-b-determination"
    assert hashing.hash_words(b"preadetermination").hashes.tolist() == (
        hashing.hash_words(b"prebdetermination").hashes.tolist()
    )
    assert found_in(f"some {other} here", build_table([one], 1)) == []
    assert found_in(f"some {one} here", build_table([one, other], 1)) == [one]


def test_case_punctuation_and_line_breaks_hide_nothing() -> None:
    table = build_table([EXAMPLE], 13)
    opening = "SOME years,\nago?\tNever... mind how\r\n\r\nlong"
    found = f"{opening} \u201cprecisely\u201d having little OR no money"
    assert found_in(f'"{found}" he', table) == [found]


def test_a_word_less_is_left() -> None:
    table = build_table([EXAMPLE], 13)
    assert found_in(f"but {THIRTEEN} said", table) == [THIRTEEN]
    shorter = THIRTEEN.rsplit(" ", 1)[0]
    assert found_in(f"but {shorter} said", table) == []


@pytest.mark.parametrize("text", [THIRTEEN, f"{THIRTEEN} and", f"and {THIRTEEN}"])
def test_the_ends_of_a_text_hide_nothing(text: str) -> None:
    hits = Scanner(build_table([EXAMPLE], 13)).scan(["", "é", text, "", text])
    assert [hit.text for hit in hits] == [2, 4]


@pytest.mark.parametrize("letter", ["x", "\u00e9"])
def test_a_gram_does_not_cross_from_one_text_to_the_next(letter: str) -> None:
    table = build_table([EXAMPLE], 13)
    half = len(THIRTEEN) // 2
    cut = THIRTEEN.index(" ", half)
    texts = [f"{letter} {THIRTEEN[:cut]}", THIRTEEN[cut + 1 :]]
    assert Scanner(table).scan(texts) == []
    assert Scanner(table).scan([" ".join(texts)])


def test_long_texts_do_not_escape() -> None:
    """Overlaps at every place around the borders of a text of many batches."""
    generator = random.Random(5)
    filler = [f"w{number}" for number in range(997)]
    texts, expected = [], []
    table = build_table([EXAMPLE], 13)
    for shift in range(0, 200, 7):
        before = " ".join(generator.choices(filler, k=1))[:2] + "x" * shift
        stuff = " ".join(generator.choices(filler, k=scan.BATCH // 16))
        border = (before + " " + stuff)[: scan.BATCH - 100]
        texts.append(f"{border} {before} {THIRTEEN} {stuff}")
        expected.append(len(border) + len(before) + 2)
    for text, start in zip(texts, expected, strict=True):
        (hit,) = Scanner(table).scan([text])
        assert (hit.start, hit.stop) == (start, start + len(THIRTEEN))


@given(SOME, st.integers(0, 20), st.integers(0, 4))
def test_stretches_hold_every_run_of_words(text: str, size: int, overlap: int) -> None:
    whole = [word[1:] for word in words(text)]
    runs = {tuple(whole[at : at + overlap + 1]) for at in range(len(whole) - overlap)}
    seen = set()
    for offset, stretch in stretches(text, size, overlap):
        spans = [(offset + word.start, offset + word.stop) for word in words(stretch)]
        assert set(spans) <= set(whole)
        seen |= {tuple(spans[at : at + overlap + 1]) for at in range(len(spans) - overlap)}
    assert seen == runs


def test_a_table_knows_whose_grams_are_whose() -> None:
    table = build_table(["a b c a b", "x a b", "", "B, c!", "a"], [2, 2, 2, 2, 0])
    owned = [
        {" ".join(table.words(gram)) for gram in table.owned_by(example).tolist()}
        for example in range(5)
    ]
    assert owned == [{"a b", "b c", "c a"}, {"x a", "a b"}, set(), {"b c"}, set()]
    assert len(table) == 4


def test_an_empty_table_finds_nothing() -> None:
    assert Scanner(build_table([], 13)).scan(["text"]) == []
    assert Scanner(build_table(["too short"], 13)).scan(["too short"]) == []


def test_a_table_travels(tmp_path: Path) -> None:
    save_arrays(tmp_path / "table.npz", build_table([EXAMPLE, "of four words only"], 13).arrays())
    with np.load(tmp_path / "table.npz") as arrays:
        table = GramTable.of_arrays(arrays)
    assert found_in(f"but {THIRTEEN} said", table) == [THIRTEEN]
