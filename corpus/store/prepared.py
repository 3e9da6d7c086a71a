"""The folder of a prepared corpus: published atomically, found by key, verified when opened.

CACHE/texts/           text generated on this machine, once (corpus.machine)
CACHE/known/KEY        which folder the text and settings of that key were prepared into
CACHE/work-KEY/        results so far of an unfinished preparation
CACHE/FINGERPRINT/     a prepared corpus:
    manifest.json          its contents, and the size of every file
    tokenizer.json
    SOURCE.train.bin/.idx, SOURCE.validation.bin/.idx
    dropped.jsonl          documents dropped by a filter, and why
    damaged.txt            records that could not be read
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
MODE = 0o775  # of new folders: never world-writable, whatever the umask


@dataclass(frozen=True, kw_only=True)
class PreparedSource:
    """One source of a corpus, and statistics of its documents."""

    name: str
    bytes: int  # of the text kept
    tokens: int  # for training
    validation_tokens: int
    documents: int  # kept
    damaged: int  # records that could not be read
    blank: int
    low_quality: int  # dropped by the quality filter
    duplicates: int  # dropped as near copies of others
    cut: int  # documents that lost overlaps with benchmarks
    cut_away: int  # those of which nothing was left
    cut_characters: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A corpus as tokens: a folder with a tokenizer and two token files per source."""

    folder: Path
    fingerprint: str  # SHA-256 of everything the tokens depend on
    sources: tuple[PreparedSource, ...]

    def tokens(self, source: str, part: str) -> Path:
        """The prefix of the .bin and .idx files; `part` is train or validation."""
        return self.folder / f"{source}.{part}"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer.json that the tokens were created with."""
        return self.folder / "tokenizer.json"

    @property
    def damaged(self) -> Path:
        """One line for each record that could not be read."""
        return self.folder / "damaged.txt"

    @property
    def dropped(self) -> Path:
        """One JSON object for each document that a filter dropped or cut."""
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
        """The number of documents kept, over all sources."""
        return sum(source.documents for source in self.sources)


def seal(prepared: Prepared) -> None:
    """Writes the manifest: `prepared` except its folder, and the size of every file there."""
    content = {key: value for key, value in asdict(prepared).items() if key != "folder"}
    content["files"] = {
        path.name: path.stat().st_size for path in sorted(prepared.folder.iterdir())
    }
    text = json.dumps(content, indent=2) + "\n"
    (prepared.folder / MANIFEST).write_text(text, encoding="utf-8")


def reopen(folder: Path) -> Prepared:
    """The result of an earlier preparation. Raises InputError if a file is incomplete."""
    content = check_whole(folder)
    try:
        sources = tuple(PreparedSource(**source) for source in content["sources"])
        fingerprint = str(content["fingerprint"])
    except (KeyError, TypeError) as error:
        raise _damaged(folder, f"{folder / MANIFEST} cannot be read") from error
    _require_plain(folder, (source.name for source in sources))
    return Prepared(folder=folder, fingerprint=fingerprint, sources=sources)


def check_whole(folder: Path) -> dict[str, Any]:
    """The manifest. Raises InputError naming a file that is missing, truncated or damaged."""
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
    """Raises InputError if other users on the machine could replace the corpus.

    A group may share a cache. World-writable parent folders are safe if the sticky bit protects
    their contents, as in /tmp.
    """
    for folder in dict.fromkeys([root, *root.absolute().parents, *root.resolve().parents]):
        try:
            mode = folder.stat().st_mode
        except OSError:  # missing, or reported when it is read
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
    # A power failure may have left the note empty.
    if not is_plain_name(name) or not (root / name).is_dir():
        return None
    require_own(note.parent)
    require_own(root / name)
    return root / name


def remember(root: Path, key: str, folder: Path) -> None:
    """Records atomically that `key` was prepared into `folder`; `find` reads it."""
    (root / "known").mkdir(MODE, exist_ok=True)
    note = root / "known" / f"{key}.{uuid4().hex}"
    note.write_text(folder.name, encoding="utf-8")
    note.rename(root / "known" / key)


def make_folder(path: Path) -> None:
    """Creates the folder and missing parents, none of them world-writable."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(MODE, exist_ok=True)


@contextmanager
def writable(root: Path, setting: str, doing: str) -> Iterator[None]:
    """Creates the folder. Raises InputError if it cannot be created or is not writable.

    Write failures inside the block raise RunError.
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
    """Locks out other processes; the system releases the lock however this process ends.

    `path` is a file used only for this lock.
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
    """Fills a temporary folder and renames it to `root/name`, so that it is complete or absent.

    If another process publishes it first, its result is used and ours discarded.
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
    """Deletes what a killed process left behind in `publish`."""
    for scratch in root.glob(f".{name}.*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Flushes to disk, before the rename makes it visible."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"{what}: delete the folder {folder} and run phalanx prepare again")
