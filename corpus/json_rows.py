"""Rows of JSONL, plain or compressed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.errors import InputError


def json_rows(path: Path, setting: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row and, for errors, where it is.

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
