"""Which documents `corpus.text` names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from configs.errors import InputError
from configs.schema import CorpusConfig
from corpus.documents import Document, examine
from corpus.installed import installed_documents

Progress = Callable[[str], None]


def gather(corpus: CorpusConfig, progress: Progress) -> list[Document]:
    """Every document, in an order that depends on names alone; each has been read once.

    Raises InputError, naming the setting and the file, if there is no text to be had.
    """
    if corpus.text is None:
        progress("reading Python's manual, the documentation of packages, the standard library")
        return _installed(corpus.max_bytes)
    path = Path(corpus.text).expanduser()
    if not path.exists():
        raise InputError(f"corpus.text: no file or folder {path}")
    progress(f"reading {path}")
    if path.is_dir():
        return _folder(path, corpus.extensions)
    document = examine(path, name=str(path), source=str(path))
    if document is None:
        raise InputError(f"corpus.text: {path} is empty")
    return [document]


def describe(documents: Iterable[Document]) -> str:
    """The sources with their sizes, for people."""
    sizes: dict[str, list[int]] = {}
    for document in documents:
        sizes.setdefault(document.source, []).append(document.size)
    return ", ".join(
        f"{source} ({len(each):,} {'document' if len(each) == 1 else 'documents'}, "
        f"{sum(each) / 1e6:.2f} MB)"
        for source, each in sizes.items()
    )


def _installed(max_bytes: int) -> list[Document]:
    documents, total = [], 0
    for document in installed_documents():
        total += document.size
        if total > max_bytes:
            break
        documents.append(document)
    if not documents:
        raise InputError(
            f"corpus.text: nothing to read within corpus.max_bytes={max_bytes:,} on this machine; "
            "raise it or set corpus.text=PATH"
        )
    return documents


def _folder(folder: Path, extensions: list[str]) -> list[Document]:
    found = (
        examine(path, name=str(path), source=str(folder))
        for path in _text_files(folder, {extension.lower() for extension in extensions})
    )
    documents = [document for document in found if document is not None]
    if not documents:
        raise InputError(
            f"corpus.text: {folder} holds no text in files that end in "
            f"{' '.join(extensions)} (corpus.extensions)"
        )
    return documents


def _text_files(folder: Path, extensions: set[str]) -> list[Path]:
    files = []
    for root, folders, names in os.walk(folder):
        # .git, .venv and the like are not anybody's text.
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(root, name) for name in names]
    return sorted(path for path in files if path.suffix.lower() in extensions and path.is_file())
