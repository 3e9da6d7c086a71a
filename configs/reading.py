"""Reads small files from untrusted sources."""

from __future__ import annotations

import errno
import os
from pathlib import Path

LARGEST = 256 << 20  # bytes; the largest tokenizer.json known has a fifth of it


def read_small(path: Path) -> str:
    """The text of a file.

    Raises OSError if it is missing, not a regular file (a pipe, a device) or too large to be what
    it should be; UnicodeDecodeError if it is not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a file", str(path))
    if path.stat().st_size > LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return path.read_text(encoding="utf-8")


def is_plain_name(name: object) -> bool:
    """Whether it names a file in a folder, and nothing outside the folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")
