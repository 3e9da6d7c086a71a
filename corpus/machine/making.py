"""Generates the files, each once."""

from __future__ import annotations

import gzip
import json
import os
import platform
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from configs.errors import InputError, RunError
from configs.settings.text import MachineText
from corpus.machine.arithmetic import arithmetic_documents
from corpus.machine.crawl import crawl
from corpus.machine.docstrings import docstring_documents
from corpus.machine.documents import Named, chosen
from corpus.machine.library import library_documents, manual_documents
from corpus.machine.packages import installed_hash, package_documents
from corpus.machine.retrieval import retrieval_documents
from corpus.store.prepared import make_folder

Progress = Callable[[str], None]


class _Recipe(NamedTuple):
    suffix: str
    description: str  # the action, for display
    documents: Callable[[], Iterable[Named]]
    of_packages: bool = False  # depends on the set of installed packages


_RECIPES = {
    MachineText.packages: _Recipe(
        ".jsonl.zst", "collecting the documentation of packages", package_documents, True
    ),
    MachineText.docstrings: _Recipe(
        ".jsonl.gz", "collecting the docstrings of packages", docstring_documents, True
    ),
    MachineText.library: _Recipe(
        ".jsonl", "collecting the sources of the standard library", library_documents
    ),
    MachineText.manual: _Recipe(".jsonl", "collecting Python's manual", manual_documents),
    MachineText.arithmetic: _Recipe(".jsonl", "making up problems", arithmetic_documents),
    MachineText.retrieval: _Recipe(
        ".jsonl", "making up facts and questions", partial(retrieval_documents, 2048)
    ),
    MachineText.long_retrieval: _Recipe(
        ".jsonl", "making up facts and questions", partial(retrieval_documents, 8192)
    ),
}


def machine_file(kind: MachineText, folder: Path, max_bytes: int, progress: Progress) -> Path:
    """The file of this kind of text in `folder`, generated if missing.

    `max_bytes` limits its text in UTF-8; 0: unlimited. The same installation generates the same
    texts in the same order.

    Raises InputError if the machine has no such text, RunError if it cannot be generated.
    """
    path, recipe = machine_path(kind, folder, max_bytes), _RECIPES.get(kind)
    if path.exists():
        return path
    try:
        with _published(path) as stream:
            if recipe is None:
                crawl(stream, max_bytes, progress)
            else:
                progress(recipe.description)
                _write(stream, recipe.suffix, kind, chosen(recipe.documents(), max_bytes))
    except OSError as error:
        raise RunError(f"cannot make {path}: {error.strerror or error}") from error
    return path


def machine_path(kind: MachineText, folder: Path, max_bytes: int) -> Path:
    """The path of this text's file, whether or not it exists."""
    recipe = _RECIPES.get(kind)
    suffix = recipe.suffix if recipe else ".warc.gz"
    packages = f"-{installed_hash()}" if recipe and recipe.of_packages else ""
    version = platform.python_version()
    return folder / f"{kind.value}-python{version}-{max_bytes}{packages}{suffix}"


@contextmanager
def _published(path: Path) -> Iterator[BinaryIO]:
    """A new file, renamed when it is complete; if another process was first, its file stays."""
    make_folder(path.parent)
    new = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with new.open("xb") as stream:
            yield stream
        if not path.exists():
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _write(stream: BinaryIO, suffix: str, kind: MachineText, documents: Iterable[Named]) -> None:
    """Raises InputError if there are no documents."""
    empty = True
    with _packed(stream, suffix) as lines:
        for document in documents:
            empty = False
            line = {"text": document.text, "source": kind.value, "name": document.name}
            lines.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    if empty:
        raise InputError(
            f"corpus: this machine has no text for machine={kind.value} within max_bytes; raise it "
            "or give text of your own with corpus.text=PATH"
        )


@contextmanager
def _packed(stream: BinaryIO, suffix: str) -> Iterator[BinaryIO | gzip.GzipFile]:
    if suffix.endswith(".gz"):
        # Without a name and a time in it, so that the same text gives the same bytes.
        with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
            yield packed
    elif suffix.endswith(".zst"):
        with zstandard.ZstdCompressor().stream_writer(stream, closefd=False) as packed:
            yield packed
    else:
        yield stream
