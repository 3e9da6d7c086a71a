from __future__ import annotations

import pytest

from corpus.contamination.benchmarks import Benchmark
from corpus.contamination.scan import Scanner
from corpus.contamination.study import (
    Row,
    Status,
    Verdict,
    choose_n,
    plan_study,
    relative_difference,
)

CLEAN, DIRTY, IGNORED = Status.clean, Status.dirty, Status.ignored


def numbered(first: int, count: int) -> str:
    return " ".join(f"w{number}" for number in range(first, first + count))


@pytest.mark.parametrize(
    ("lengths", "synthetic", "expected"),
    [
        ([50] * 100, False, 13),
        ([10] * 100, False, 10),
        ([3] * 100, False, 8),
        ([3] * 100, True, 3),
        ([1] * 100, True, 2),
        ([50] * 100, True, 13),
        ([9, *[50] * 18], False, 9),  # of 19, the least is the 5th percentile
        ([*[8] * 4, *[12] * 96], False, 12),
        ([*[8] * 5, *[12] * 95], False, 8),  # between the 5th and the 6th: the lower
    ],
)
def test_n_is_the_5th_percentile_held_within_bounds(
    lengths: list[int], synthetic: bool, expected: int
) -> None:
    assert choose_n(lengths, min_n=8, max_n=13, synthetic=synthetic) == expected


def test_an_example_is_dirty_if_one_gram_is_anywhere() -> None:
    prose = Benchmark(
        name="prose",
        examples=(
            *[numbered(100 * number, 20) for number in range(1, 61)],
            numbered(15000, 9),  # shorter than N: whole
            numbered(16000, 9),
            numbered(17000, 7),  # too short to be judged
        ),
    )
    anagrams = Benchmark(name="anagrams", examples=("tac cat", "god dog", "a"), synthetic=True)
    study = plan_study([prose, anagrams], min_n=8, max_n=13)
    assert study.ns == (13, 2)
    text = [
        f"{numbered(105, 13)} but only {numbered(200, 12)} {numbered(15000, 9).upper()}",
        f"{numbered(16000, 8)} {numbered(17000, 7)} God... dog a",
    ]
    hit = {each.gram for each in Scanner(study.table).scan(text)}
    of_prose, of_anagrams = study.statuses(hit)
    assert of_prose == [DIRTY, *[CLEAN] * 59, DIRTY, CLEAN, IGNORED]
    assert of_anagrams == [CLEAN, DIRTY, IGNORED]


def test_the_report_scores_those_judged() -> None:
    examples = tuple(numbered(100 * number, 8 if number else 3) for number in range(5))
    scored = Benchmark(name="scored", examples=examples, scores=(9.0, 2.0, 0.0, 1.0, 2.0))
    plain = Benchmark(name="plain", examples=("nothing of it is anywhere in any of the text",))
    study = plan_study([scored, plain], min_n=8, max_n=13)
    hit = {each.gram for each in Scanner(study.table).scan([numbered(100, 8)])}
    first, second = study.report(hit)
    assert first == Row(
        name="scored",
        n=8,
        ignored=1,
        dirty=1,
        clean=3,
        score_all=1.25,
        score_dirty=2.0,
        score_clean=1.0,
    )
    assert (first.examples, first.dirty_share, first.clean_share) == (4, 0.25, 0.75)
    assert (second.score_all, second.score_clean, second.difference) == (None, None, None)
    assert study.report([])[0].score_dirty is None


@pytest.mark.parametrize(
    ("name", "score_all", "score_clean", "printed"),
    [
        ("Quac", 44.3, 54.1, 20),
        ("SQuADv2", 69.8, 68.4, -2),
        ("DROP", 36.5, 29.5, -21),
        ("CoQa", 86.0, 87.1, 1),
        ("Winograd", 88.6, 86.2, -3),
        ("PIQA", 82.3, 79.3, -4),
        ("De->En 16", 43.0, 40.8, -5),
        ("RACE-m", 58.5, 60.4, 3),
    ],
)
def test_the_difference_is_that_of_the_paper(
    name: str, score_all: float, score_clean: float, printed: int
) -> None:
    """Rows of table C.1 of Brown et al. (2020); the printed column is the last."""
    difference = relative_difference(score_all, score_clean)
    assert difference is not None
    assert round(difference) == printed, name


def test_no_score_gives_no_difference() -> None:
    assert relative_difference(None, 1.0) is None
    assert relative_difference(0.0, 0.0) is None


@pytest.mark.parametrize(
    ("dirty", "clean", "score_all", "score_clean", "expected"),
    [
        (164, 109, 88.6, 86.2, Verdict.worse),  # Winograd in table C.1
        (526, 1312, 82.3, 79.3, Verdict.worse),  # PIQA
        (8898, 638, 36.5, 29.5, Verdict.too_few),  # DROP
        (1955, 1315, 76.0, 76.3, Verdict.unaffected),  # BoolQ
        (42, 62, 76.9, 79.0, Verdict.too_few),  # WSC
        (100, 900, 80.0, 79.3, Verdict.unaffected),
        (100, 900, None, None, Verdict.unscored),
    ],
)
def test_a_difference_matters_if_clean_is_worse_and_there_is_enough_of_it(
    dirty: int, clean: int, score_all: float | None, score_clean: float | None, expected: Verdict
) -> None:
    row = Row(
        name="b",
        n=13,
        ignored=0,
        dirty=dirty,
        clean=clean,
        score_all=score_all,
        score_dirty=None,
        score_clean=score_clean,
    )
    assert row.verdict == expected
