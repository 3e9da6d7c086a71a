"""Descriptions and documentation of the installed packages."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePath

from corpus.machine.documents import Named, hashed

PROSE = {".md", ".rst", ".txt"}
LISTS = {"entry_points.txt", "top_level.txt", "SOURCES.txt", "requirements.txt"}
TESTS = {"test", "tests"}


def package_folders() -> list[str]:
    """The site-packages folders of this interpreter, sorted."""
    # Not sys.path, which depends on how the program was started.
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def installed_hash() -> str:
    """Eight digits that identify a set of installed packages and versions."""
    packages = sorted(f"{each.name}=={each.version}" for each in _packages())
    return hashlib.sha256("\n".join(packages).encode()).hexdigest()[:8]


def package_documents() -> Iterator[Named]:
    """Each package's description and prose files; files that are not UTF-8 are skipped."""
    for package in sorted(_packages(), key=lambda package: hashed(package.name.lower())):
        try:
            description = (package.read_text("METADATA") or "").partition("\n\n")[2]
        except UnicodeDecodeError:
            description = ""
        yield Named(package.name, description)
        for name, path in _prose_files(package):
            try:
                yield Named(name, path.read_text(encoding="utf-8"))
            except (UnicodeDecodeError, OSError):
                continue


def _packages() -> Iterable[Distribution]:
    return distributions(path=package_folders())


def _prose_files(package: Distribution) -> Iterator[tuple[str, Path]]:
    for file in sorted(package.files or []):
        if file.suffix in PROSE and file.name not in LISTS and not TESTS & set(file.parts):
            path = Path(str(package.locate_file(file)))
            if path.is_file():
                yield PurePath(file).as_posix(), path
