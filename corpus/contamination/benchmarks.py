"""Reads the examples of benchmarks, and what a model scored on them."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.schema import BenchmarkConfig


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    name: str
    examples: tuple[str, ...]
    synthetic: bool = False  # made by a program
    scores: tuple[float, ...] | None = None  # one for each example


def read_benchmark(name: str, config: BenchmarkConfig) -> Benchmark:
    """The benchmark that `contamination.benchmarks` calls `name`.

    Raises InputError, with file and line, for what cannot be used.
    """
    setting = f"contamination.benchmarks.{name}"
    rows = _rows(Path(config.path).expanduser(), f"{setting}.path")
    examples = tuple(_example(row, config.fields, where) for where, row in rows)
    if not any(map(str.strip, examples)):
        raise InputError(
            f"{setting}.fields: no row of {config.path} has text in "
            f"{'any field' if config.fields is None else ', '.join(config.fields) or 'no field'}"
        )
    scores = None
    if config.scores is not None:
        rows = _rows(Path(config.scores).expanduser(), f"{setting}.scores")
        scores = tuple(_score(row, where) for where, row in rows)
        if len(scores) != len(examples):
            raise InputError(
                f"{setting}.scores: {config.scores} has {len(scores):,} scores for "
                f"{len(examples):,} examples in {config.path}"
            )
    return Benchmark(name=name, examples=examples, synthetic=config.synthetic, scores=scores)


def _rows(path: Path, setting: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row and, for errors, where it is."""
    content = _content(path, setting)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{setting}: {path}, line {line:,}: not UTF-8") from error
    if not text.strip():
        raise InputError(f"{setting}: {path} is empty")
    for line, content_of_line in enumerate(text.split("\n"), start=1):
        if content_of_line.strip():
            where = f"{setting}: {path}, line {line:,}"
            yield where, _row(content_of_line, where)


def _content(path: Path, setting: str) -> bytes:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            return gzip.decompress(content)
        return _unpack_zst(content) if path.suffix == ".zst" else content
    except EOFError as error:
        raise InputError(f"{setting}: {path} is cut short") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{setting}: {path} is not whole: {error}") from error
    except OSError as error:
        raise InputError(f"{setting}: cannot read {path}: {error.strerror}") from error


def _unpack_zst(content: bytes) -> bytes:
    """Raises EOFError if it is cut short, BadGzipFile if it is something else."""
    import zstandard

    parts = []
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            parts.append(frame.decompress(content))
        except zstandard.ZstdError as error:
            raise gzip.BadGzipFile(str(error)) from error
        if not frame.eof:
            raise EOFError
        content = frame.unused_data
    return b"".join(parts)


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: a row must be an object, not {type(row).__name__}")
    return row


def _example(row: dict[str, Any], fields: list[str] | None, where: str) -> str:
    if fields is None:
        return "\n".join(_strings(list(row.values())))
    if absent := [field for field in fields if field not in row]:
        raise InputError(f"{where}: no field {absent[0]!r}; it has {', '.join(row)}")
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
