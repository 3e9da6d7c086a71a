"""Rows of JSONL, plain or compressed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.errors import InputError
from corpus.formats.streams import Block, Broken, blocks

LARGEST = 1 << 31  # bytes, decompressed


def json_rows(path: Path, setting: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each row with its location for error messages.

    Raises InputError, with file and line, for what cannot be read.
    """
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
    """The decompressed content, with a limit: a small file may decompress to more than memory."""
    parts, size = [], 0
    for block in _blocks(path, setting):
        if isinstance(block, Broken):
            raise InputError(f"{setting}: {path} is not whole: {block.reason}")
        parts.append(block.data)
        size += len(block.data)
        if size > LARGEST:
            raise InputError(
                f"{setting}: {path} holds more than {LARGEST:,} bytes, and all of it is read into "
                "memory; nearest: a file of fewer rows"
            )
    return b"".join(parts)


def _blocks(path: Path, setting: str) -> Iterator[Block | Broken]:
    try:
        yield from blocks(path)
    except InputError as error:
        raise InputError(f"{setting}: {error}") from error


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: a row must be an object, not {type(row).__name__}")
    return row
