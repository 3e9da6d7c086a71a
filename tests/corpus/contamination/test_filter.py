from __future__ import annotations

import pytest

from corpus.contamination.benchmarks import Benchmark
from corpus.contamination.filter import (
    Cut,
    Dropped,
    Rules,
    Span,
    cut,
    document_counts,
    filter_documents,
    filter_table,
)
from corpus.contamination.scan import Hit

RULES = Rules(window=200, min_piece=200, max_pieces=10, max_documents=10)
GRAM = "one two three four five six seven eight nine ten eleven twelve thirteen"


def test_a_document_without_grams_stays_whole_however_short() -> None:
    assert cut("short", [], RULES) == Cut(((0, 5),))
    assert cut("", [], RULES) == Cut(((0, 0),))


@pytest.mark.parametrize(
    ("found", "pieces"),
    [
        ([(500, 560)], [(0, 300), (760, 2000)]),
        ([(500, 560), (505, 570)], [(0, 300), (770, 2000)]),  # overlapping grams
        ([(900, 950), (500, 560)], [(0, 300), (1150, 2000)]),  # windows overlap; any order
        ([(500, 560), (960, 990)], [(0, 300), (1190, 2000)]),  # windows touch
        ([(0, 60)], [(260, 2000)]),
        ([(390, 400)], [(600, 2000)]),  # 190 characters before are too few
        ([(400, 410)], [(0, 200), (610, 2000)]),  # 200 are not
        ([(1990, 2000)], [(0, 1790)]),
    ],
)
def test_a_window_goes_with_the_gram(found: list[Span], pieces: list[Span]) -> None:
    assert cut("x" * 2000, found, RULES) == Cut(tuple(pieces))


def test_a_document_cut_into_too_many_pieces_is_dropped() -> None:
    text = "x" * 20_000
    nine = [(1000 * number, 1000 * number + 50) for number in range(1, 10)]
    assert len(cut(text, nine, RULES).pieces) == 10
    assert cut(text, [*nine, (10_000, 10_050)], RULES) == Cut((), Dropped.pieces)


def test_short_pieces_count() -> None:
    text = "x" * 20_000
    close = [(500 * number, 500 * number + 50) for number in range(1, 11)]
    assert cut(text, close, RULES) == Cut((), Dropped.pieces)


def test_a_long_overlap_of_many_grams_cuts_once() -> None:
    grams = [(1000 + 6 * number, 1080 + 6 * number) for number in range(40)]
    assert cut("x" * 5000, grams, RULES) == Cut(((0, 800), (1514, 5000)))


def test_a_document_of_which_no_piece_is_left_is_dropped() -> None:
    assert cut("x" * 700, [(300, 400)], RULES) == Cut((), Dropped.short)
    assert cut("x" * 300, [(100, 200)], RULES) == Cut((), Dropped.short)


def test_a_gram_counts_once_for_each_document() -> None:
    hits = [Hit(0, 1, 0, 5), Hit(0, 1, 9, 14), Hit(3, 1, 0, 5), Hit(3, 0, 0, 5)]
    assert document_counts(hits, 4).tolist() == [1, 2, 0, 0]
    assert document_counts([], 2).tolist() == [0, 0]


def test_grams_of_many_documents_are_ignored() -> None:
    table = filter_table([Benchmark(name="b", examples=(GRAM, "too short for a gram"))], 13)
    filler = "filler " * 100
    document = f"{filler}{GRAM.upper()} {filler}"
    cuts = filter_documents([document] * 10 + [filler], table, RULES)
    start, stop = len(filler) - 200, len(filler) + len(GRAM) + 200
    assert cuts[:10] == [Cut(((0, start), (stop, len(document))))] * 10
    assert cuts[10] == Cut(((0, len(filler)),))
    cuts = filter_documents([document] * 11, table, RULES)
    assert cuts == [Cut(((0, len(document)),))] * 11
