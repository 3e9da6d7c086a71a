"""The default corpus: English and code that every installation of this program has on disk.

Prose comes first, so that a small `corpus.max_bytes` still reads like English. The standard
library follows in the order of a hash of the names, so that a cut leaves a fair sample of it.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from itertools import chain
from pathlib import Path, PurePath

from configs.errors import InputError
from corpus.documents import Document, examine

MANUAL = "Python's manual pages"
PACKAGES = "documentation of installed packages"
LIBRARY = "Python's standard library"

PROSE = {".md", ".rst", ".txt"}
LISTS = {"entry_points.txt", "top_level.txt", "SOURCES.txt", "requirements.txt"}
TESTS = {"test", "tests", "idle_test"}
# pydoc_data is the manual again; encodings are tables of numbers; the others are not the library.
NOT_LIBRARY = TESTS | {"pydoc_data", "encodings", "site-packages", "dist-packages", "__pycache__"}

Named = tuple[str, Path | bytes]


def installed_documents() -> Iterator[Document]:
    """Text without exact duplicates (licences repeat a lot); what is not UTF-8 is left out."""
    seen: set[str] = set()
    sources = ((MANUAL, _manual()), (PACKAGES, _packages()), (LIBRARY, _library()))
    for source, name, origin in _labelled(sources):
        try:
            document = examine(origin, name=name, source=source)
        except InputError:
            continue
        if document is not None and document.digest not in seen:
            seen.add(document.digest)
            yield document


def _labelled(
    sources: Iterable[tuple[str, Iterable[Named]]],
) -> Iterator[tuple[str, str, Path | bytes]]:
    return chain.from_iterable(
        ((source, name, origin) for name, origin in texts) for source, texts in sources
    )


def _manual() -> Iterator[Named]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions of Python leave the manual out
        return
    for name in sorted(topics):
        yield f"manual/{name}", topics[name].encode()


def _packages() -> Iterator[Named]:
    # Not sys.path: what it holds depends on how the program was started.
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    for package in sorted(distributions(path=folders), key=lambda package: package.name.lower()):
        description = (package.read_text("METADATA") or "").partition("\n\n")[2]
        yield f"packages/{package.name}", description.encode()
        yield from _prose_files(package)


def _prose_files(package: Distribution) -> Iterator[Named]:
    for file in sorted(package.files or []):
        if file.suffix in PROSE and file.name not in LISTS and not TESTS & set(file.parts):
            path = Path(str(package.locate_file(file)))
            if path.is_file():
                yield f"packages/{PurePath(file).as_posix()}", path


def _library() -> Iterator[Named]:
    library = Path(sysconfig.get_path("stdlib"))
    found: list[Named] = []
    for root, folders, files in os.walk(library):
        folders[:] = [name for name in folders if name not in NOT_LIBRARY]
        for path in (Path(root, name) for name in files if name.endswith(".py")):
            # _sysconfigdata holds the paths of the machine that built Python.
            if not path.name.startswith("_sysconfigdata"):
                found.append((f"library/{path.relative_to(library).as_posix()}", path))
    return iter(sorted(found, key=lambda named: hashlib.sha256(named[0].encode()).digest()))
