"""Which benchmark examples occurred in training, and whether that affects the score.

Appendix C of Brown et al. (2020): an example is dirty if any of its N-grams is anywhere in the
training text, and clean otherwise; N depends on the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from corpus.contamination.benchmarks import Benchmark
from corpus.contamination.grams import GramTable, build_table
from corpus.contamination.words import words

SYNTHETIC_MIN_N = 2  # the smallest N in the paper's table C.1
WORSE = 1.0  # percent: the paper takes a clean score worse by 1 to 2 % for overfitting
FEWEST_CLEAN = 100  # with fewer the mean's error is several percent, above the effect sought
LEAST_CLEAN_SHARE = (
    0.1  # the paper could not judge reading comprehension, of which 1 to 7 % is clean
)


class Status(StrEnum):
    """Whether any gram of a benchmark example is in the training text."""

    clean = "clean"
    dirty = "dirty"
    ignored = "ignored"  # too short to be judged


class Verdict(StrEnum):
    """Whether a benchmark's score is worse on its clean examples than on all."""

    unaffected = "unaffected"
    worse = "worse when clean"
    too_few = "too few clean examples to say"
    unscored = "no scores"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A benchmark as in the paper's table C.1. All examples are those not ignored."""

    name: str
    n: int
    ignored: int  # examples
    dirty: int
    clean: int
    score_all: float | None  # None: no scores, or no such examples
    score_dirty: float | None
    score_clean: float | None

    @property
    def examples(self) -> int:
        """The number of examples judged."""
        return self.dirty + self.clean

    @property
    def dirty_share(self) -> float:
        """The dirty fraction of the judged examples; 0 if none was judged."""
        return self.dirty / self.examples if self.examples else 0.0

    @property
    def clean_share(self) -> float:
        """The clean fraction of the judged examples; 0 if none was judged."""
        return self.clean / self.examples if self.examples else 0.0

    @property
    def difference(self) -> float | None:
        """Percent by which the clean score exceeds that of all."""
        return relative_difference(self.score_all, self.score_clean)

    @property
    def verdict(self) -> Verdict:
        """Too few clean examples take precedence: a difference between them means little."""
        if self.clean < FEWEST_CLEAN or self.clean_share < LEAST_CLEAN_SHARE:
            return Verdict.too_few
        if self.score_all is None:
            return Verdict.unscored
        worse = self.difference is not None and self.difference < -WORSE
        return Verdict.worse if worse else Verdict.unaffected


@dataclass(frozen=True, eq=False)
class Study:
    """The grams to look for, and the benchmarks they belong to."""

    benchmarks: tuple[Benchmark, ...]
    ns: tuple[int, ...]  # N of each benchmark
    lengths: tuple[NDArray[np.int64], ...]  # words of the grams of its examples; 0: ignored
    table: GramTable  # of the examples of all benchmarks, in order

    def statuses(self, hit: Iterable[int]) -> list[list[Status]]:
        """The status of each example of each benchmark, given the grams found in the text."""
        found = np.zeros(len(self.table), bool)
        found[np.fromiter(hit, np.int64)] = True
        starts = accumulate((len(each.examples) for each in self.benchmarks), initial=0)
        return [
            [
                self._status(number, int(length), found)
                for number, length in zip(range(*span), lengths, strict=True)
            ]
            for span, lengths in zip(pairwise(starts), self.lengths, strict=True)
        ]

    def _status(self, example: int, length: int, found: NDArray[np.bool_]) -> Status:
        if not length:
            return Status.ignored
        return Status.dirty if found[self.table.owned_by(example)].any() else Status.clean

    def report(self, hit: Iterable[int]) -> list[Row]:
        """One row per benchmark, given the grams found in the text."""
        every = zip(self.benchmarks, self.ns, self.statuses(hit), strict=True)
        return [_row(benchmark, n, statuses) for benchmark, n, statuses in every]


def plan_study(benchmarks: Sequence[Benchmark], *, min_n: int, max_n: int) -> Study:
    """Chooses each benchmark's N and builds the table to scan for.

    An example with fewer than N words is one gram; one with fewer than min_n, or for a synthetic
    benchmark than SYNTHETIC_MIN_N, is ignored.
    """
    ns, lengths = [], []
    for benchmark in benchmarks:
        counts = np.array([len(words(example)) for example in benchmark.examples])
        n = choose_n(counts.tolist(), min_n=min_n, max_n=max_n, synthetic=benchmark.synthetic)
        least = SYNTHETIC_MIN_N if benchmark.synthetic else min_n
        ns.append(n)
        lengths.append(np.where(counts < least, 0, np.minimum(counts, n)))
    examples = [example for benchmark in benchmarks for example in benchmark.examples]
    table = build_table(examples, np.concatenate(lengths).tolist())
    return Study(tuple(benchmarks), tuple(ns), tuple(lengths), table)


def choose_n(lengths: Sequence[int], *, min_n: int, max_n: int, synthetic: bool) -> int:
    """The 5th percentile of the examples' lengths in words, clamped to min_n..max_n.

    It is the length of an example, the lower one if it falls between two. Synthetic benchmarks
    have SYNTHETIC_MIN_N instead of min_n.
    """
    percentile = int(np.percentile(lengths, 5, method="lower"))
    return min(max(percentile, SYNTHETIC_MIN_N if synthetic else min_n), max_n)


def relative_difference(score_all: float | None, score_clean: float | None) -> float | None:
    """Percent of the mean of both scores by which the clean one is better.

    Table C.1's printed column is 2 (clean - all) / (clean + all), not (clean - all) / all: QuAC's
    44.3 and 54.1 are given as 20 %, but are 22 % of 44.3.
    """
    if score_all is None or score_clean is None or score_all + score_clean == 0:
        return None
    return 200 * (score_clean - score_all) / (score_clean + score_all)


def _row(benchmark: Benchmark, n: int, statuses: Sequence[Status]) -> Row:
    def score(*among: Status) -> float | None:
        pairs = zip(benchmark.scores or (), statuses, strict=False)
        scores = [score for score, status in pairs if status in among]
        return fmean(scores) if scores else None

    return Row(
        name=benchmark.name,
        n=n,
        ignored=statuses.count(Status.ignored),
        dirty=statuses.count(Status.dirty),
        clean=statuses.count(Status.clean),
        score_all=score(Status.clean, Status.dirty),
        score_dirty=score(Status.dirty),
        score_clean=score(Status.clean),
    )
