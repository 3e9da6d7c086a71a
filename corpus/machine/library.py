"""Sources of Python's standard library, and Python's manual pages."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from configs.errors import InputError
from corpus.machine.documents import Named, hashed

# pydoc_data is the manual again; encodings are tables of numbers; the others are not the library.
NOT_LIBRARY = {
    "test",
    "tests",
    "idle_test",
    "pydoc_data",
    "encodings",
    "site-packages",
    "dist-packages",
    "__pycache__",
}


def library_documents() -> Iterator[Named]:
    """One document per file; files that are not UTF-8 are skipped."""
    library = Path(sysconfig.get_path("stdlib"))
    found: list[tuple[str, Path]] = []
    for root, folders, files in os.walk(library):
        folders[:] = [name for name in folders if name not in NOT_LIBRARY]
        for path in (Path(root, name) for name in files if name.endswith(".py")):
            # _sysconfigdata holds the paths of the machine that built Python.
            if not path.name.startswith("_sysconfigdata"):
                found.append((path.relative_to(library).as_posix(), path))
    for name, path in sorted(found, key=lambda named: hashed(named[0])):
        try:
            yield Named(name, path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, OSError):
            continue


def manual_documents() -> Iterator[Named]:
    """Raises InputError if the manual is not installed."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError(
            "corpus: this Python comes without its manual (pydoc_data); give text of your own "
            "with corpus.text=PATH, or leave the source out with '~corpus.sources.manual'"
        ) from error
    return (Named(name, topics[name]) for name in sorted(topics, key=hashed))
