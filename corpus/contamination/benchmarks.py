"""Reads the examples of benchmarks, and what a model scored on them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.text import BenchmarkConfig
from configs.words import listed
from corpus.sources.jsonl import json_rows


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The texts of a benchmark's examples, and what a model scored on each."""

    name: str
    examples: tuple[str, ...]
    synthetic: bool = False  # made by a program
    scores: tuple[float, ...] | None = None  # one for each example


def read_benchmark(name: str, config: BenchmarkConfig) -> Benchmark:
    """The benchmark that `contamination.benchmarks` calls `name`.

    Raises InputError, with file and line, for what cannot be used.
    """
    setting = f"contamination.benchmarks.{name}"
    rows = json_rows(Path(config.path).expanduser(), f"{setting}.path")
    examples = tuple(_example(row, config.fields, where) for where, row in rows)
    if not any(map(str.strip, examples)):
        raise InputError(
            f"{setting}.fields: no row of {config.path} has text in "
            f"{'any field' if config.fields is None else listed(config.fields) or 'no field'}"
        )
    scores = None
    if config.scores is not None:
        rows = json_rows(Path(config.scores).expanduser(), f"{setting}.scores")
        scores = tuple(_score(row, where) for where, row in rows)
        if len(scores) != len(examples):
            raise InputError(
                f"{setting}.scores: {config.scores} has {len(scores):,} scores for "
                f"{len(examples):,} examples in {config.path}"
            )
    return Benchmark(name=name, examples=examples, synthetic=config.synthetic, scores=scores)


def _example(row: dict[str, Any], fields: list[str] | None, where: str) -> str:
    if fields is None:
        return "\n".join(_strings(list(row.values())))
    if absent := [field for field in fields if field not in row]:
        raise InputError(f"{where}: no field {absent[0]!r}; it has {listed(row)}")
    return "\n".join(_strings([row[field] for field in fields]))


def _strings(value: object) -> Iterator[str]:
    """The text in a value: itself, or that of what it lists or holds."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _score(row: dict[str, Any], where: str) -> float:
    score = row.get("score")
    try:
        return _finite(score)
    except (TypeError, ValueError, OverflowError) as error:
        shown = json.dumps(score)[:40]
        raise InputError(f'{where}: "score" must be a number, not {shown}') from error


def _finite(score: Any) -> float:
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError
    return float(score)
