"""The folder a corpus is prepared into: published whole, recognised later, checked when opened.

CACHE/texts/           text of this machine, made once (corpus.machine)
CACHE/known/KEY        which folder the text and settings of that key were prepared into
CACHE/work-KEY/        what a preparation that is not finished has done so far
CACHE/FINGERPRINT/     a prepared corpus:
    manifest.json          what it holds, and the size of every file
    tokenizer.json
    SOURCE.train.bin/.idx, SOURCE.validation.bin/.idx
    dropped.jsonl          documents that a filter dropped, and why
    damaged.txt            what could not be read
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from configs.errors import InputError, RunError
from configs.reading import is_plain_name, read_small

MANIFEST = "manifest.json"
MODE = 0o775  # of new folders: whatever the umask, not everybody writes there


@dataclass(frozen=True, kw_only=True)
class PreparedSource:
    """One source of a corpus, and what became of its documents."""

    name: str
    bytes: int  # of the text that was kept
    tokens: int  # to train on
    validation_tokens: int
    documents: int  # kept
    damaged: int  # records that could not be read
    blank: int
    low_quality: int  # dropped by the quality filter
    duplicates: int  # dropped as near copies of others
    cut: int  # documents that lost overlaps with benchmarks
    cut_away: int  # those of them that nothing was left of
    cut_characters: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A corpus as tokens: a folder with a tokenizer and two token files a source."""

    folder: Path
    fingerprint: str  # SHA-256 of everything the tokens depend on
    sources: tuple[PreparedSource, ...]

    def tokens(self, source: str, part: str) -> Path:
        """The prefix of the .bin and .idx files; `part` is train or validation."""
        return self.folder / f"{source}.{part}"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer.json that the tokens were made with."""
        return self.folder / "tokenizer.json"

    @property
    def damaged(self) -> Path:
        """A line for each record that could not be read."""
        return self.folder / "damaged.txt"

    @property
    def dropped(self) -> Path:
        """A JSON object for each document that a filter dropped or cut."""
        return self.folder / "dropped.jsonl"

    @property
    def train_tokens(self) -> int:
        """Training tokens of all sources."""
        return sum(source.tokens for source in self.sources)

    @property
    def validation_tokens(self) -> int:
        """Held-out tokens of all sources."""
        return sum(source.validation_tokens for source in self.sources)

    @property
    def documents(self) -> int:
        """Documents kept of all sources."""
        return sum(source.documents for source in self.sources)


def seal(prepared: Prepared) -> None:
    """Writes the manifest: all of `prepared` but its folder, and the size of every file there."""
    content = {key: value for key, value in asdict(prepared).items() if key != "folder"}
    content["files"] = {
        path.name: path.stat().st_size for path in sorted(prepared.folder.iterdir())
    }
    text = json.dumps(content, indent=2) + "\n"
    (prepared.folder / MANIFEST).write_text(text, encoding="utf-8")


def reopen(folder: Path) -> Prepared:
    """What an earlier preparation left in `folder`. Raises InputError if a file is not whole."""
    content = check_whole(folder)
    try:
        sources = tuple(PreparedSource(**source) for source in content["sources"])
        fingerprint = str(content["fingerprint"])
    except (KeyError, TypeError) as error:
        raise _damaged(folder, f"{folder / MANIFEST} cannot be read") from error
    _require_plain(folder, (source.name for source in sources))
    return Prepared(folder=folder, fingerprint=fingerprint, sources=sources)


def check_whole(folder: Path) -> dict[str, Any]:
    """The manifest. Raises InputError naming the file that is missing, cut short or damaged."""
    try:
        content: dict[str, Any] = json.loads(read_small(folder / MANIFEST))
        sizes: dict[str, int] = dict(content["files"])
    except PermissionError as error:
        raise InputError(f"{folder / MANIFEST}: {error.strerror}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(folder, f"{folder / MANIFEST} cannot be read") from error
    _require_plain(folder, sizes)
    for name, size in sizes.items():
        path = folder / name
        actual = path.stat().st_size if path.is_file() else None
        if actual is None:
            raise _damaged(folder, f"{path} is missing")
        if actual != size:
            raise _damaged(folder, f"{path} has {actual:,} bytes where {size:,} were written")
    return content


def _require_plain(folder: Path, names: Iterable[object]) -> None:
    for name in names:
        if not is_plain_name(name):
            raise _damaged(folder, f"{folder / MANIFEST} names {name!r}")


def require_own(root: Path) -> None:
    """Raises InputError where everybody on the machine may put another corpus in its place.

    A group may share a cache. Folders above it are of no harm where the sticky bit keeps what is in
    them to its owners, as in /tmp.
    """
    for folder in dict.fromkeys([root, *root.absolute().parents, *root.resolve().parents]):
        try:
            mode = folder.stat().st_mode
        except OSError:  # not there yet, or told of where it is read
            continue
        if mode & stat.S_IWOTH and (folder == root or not mode & stat.S_ISVTX):
            raise InputError(
                f"corpus.cache={root}: others may write to {folder} (mode {mode & 0o7777:o}), and "
                f"change what is trained on; nearest: chmod o-w {folder}, or "
                "corpus.cache=~/.cache/phalanx"
            )


def find(root: Path, key: str) -> Path | None:
    """The folder that the text and settings of `key` were prepared into."""
    note = root / "known" / key
    try:
        name = read_small(note) if note.is_file() else ""
    except OSError as error:
        raise InputError(f"corpus.cache: cannot read {note}: {error.strerror}") from error
    # A power cut may have left the note empty.
    if not is_plain_name(name) or not (root / name).is_dir():
        return None
    require_own(note.parent)
    require_own(root / name)
    return root / name


def remember(root: Path, key: str, folder: Path) -> None:
    """Notes, by a rename, that `key` was prepared into `folder`; `find` reads it."""
    (root / "known").mkdir(MODE, exist_ok=True)
    note = root / "known" / f"{key}.{uuid4().hex}"
    note.write_text(folder.name, encoding="utf-8")
    note.rename(root / "known" / key)


def make_folder(path: Path) -> None:
    """And those above it that are missing, which not everybody may write to."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(MODE, exist_ok=True)


@contextmanager
def writable(root: Path, setting: str, doing: str) -> Iterator[None]:
    """Makes the folder. Raises InputError where it cannot, or cannot be written in.

    What fails to be written within is a RunError.
    """
    try:
        make_folder(root)
        probe = root / f".{uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{setting}: cannot write in {root}: {error.strerror}") from error
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{doing} in {error.filename or root} failed: {error.strerror or error}; what is "
            "finished is kept, and the same command goes on from there"
        ) from error


@contextmanager
def alone(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One process at a time; the system lets the next one in when it ends, however it ends.

    `path` is a file that is there for this alone.
    """
    path.parent.mkdir(MODE, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def publish(root: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """`root/name`, filled in a folder of its own and renamed, so that it is whole or absent.

    If another process publishes it first, its work is taken and ours discarded.
    """
    target, scratch = root / name, root / f".{name}.{uuid4().hex}"
    scratch.mkdir(MODE)
    try:
        fill(scratch)
        _sync(scratch)
        scratch.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def clear_scratch(root: Path, name: str) -> None:
    """Deletes what a killed process left of `publish`."""
    for scratch in root.glob(f".{name}.*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _sync(folder: Path) -> None:
    """To the disk, before the rename says that all is there."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"{what}: delete the folder {folder} and run phalanx prepare again")
