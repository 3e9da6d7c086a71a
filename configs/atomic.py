"""Files and folders that are complete or absent, however many processes write them at once."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from configs.errors import InputError
from configs.override import override


def write_atomic(path: Path, content: str) -> None:
    """Writes a file; the last of several writers wins, no reader sees a part. Raises OSError."""
    with atomic_file(path) as unfinished:
        unfinished.write_text(content, encoding="utf-8")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path with the same extension, which is renamed at the end of the block."""
    unfinished = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@dataclass(slots=True)
class Filling:
    """A folder being filled, and its destination."""

    folder: Path
    target: Path


@contextmanager
def atomic_folder(
    setting: str, target: Path, next_name: Callable[[Path], Path] | None = None
) -> Iterator[Filling]:
    """Yields a folder to fill, which is renamed when it is complete.

    Args:
        next_name: the alternative to a target that is taken; None: raises instead.

    Raises InputError, naming `setting`, if it cannot be written or is taken.
    """
    if next_name is None and is_taken(target):
        raise _taken(setting, target)
    filling = Filling(target.with_name(f".{uuid.uuid4().hex}-{target.name}"), target)
    try:
        filling.folder.mkdir(parents=True)
        yield filling
        while not _renamed(filling):
            if next_name is None:
                raise _taken(setting, target)
            filling.target = next_name(filling.target)
    except OSError as error:
        raise InputError(f"{override(setting, str(target))}: {error.strerror}") from None
    finally:
        shutil.rmtree(filling.folder, ignore_errors=True)


def _renamed(filling: Filling) -> bool:
    """False if the target is taken: a rename replaces only an empty folder."""
    if is_taken(filling.target):
        return False
    try:
        os.rename(filling.folder, filling.target)
    except OSError:
        if is_taken(filling.target):
            return False
        raise
    return True


def _taken(setting: str, target: Path) -> InputError:
    return InputError(f"{override(setting, str(target))}: is there already; give another")


def is_taken(target: Path) -> bool:
    """Whether something exists there that would be lost."""
    return target.exists() and (not target.is_dir() or any(target.iterdir()))
