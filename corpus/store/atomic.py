"""Files that are either complete or absent, whenever the process dies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes an .npz file."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def text_array(content: object) -> npt.NDArray[np.uint8]:
    """Encodes JSON data as an array, for storage beside other arrays."""
    return np.frombuffer(json.dumps(content).encode(), np.uint8)


def from_text_array(array: npt.NDArray[np.uint8]) -> Any:
    """Decodes what `text_array` encoded."""
    return json.loads(array.tobytes())


def make_once(path: Path, make: Callable[[], bytes]) -> None:
    """Writes the file, unless an earlier start has."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(make())
        unfinished.rename(path)
