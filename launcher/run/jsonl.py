"""Files with one JSON object per line that tolerate a process killed while it was writing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All complete lines; an empty list if the file does not exist."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Appends the row on a line of its own, even after an incomplete line."""
    with path.open("a+b") as file:
        torn = file.seek(0, os.SEEK_END) > 0 and _last_byte(path) != b"\n"
        file.write(b"\n" * torn + json.dumps(row).encode() + b"\n")


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read()
