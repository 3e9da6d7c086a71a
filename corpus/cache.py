"""The folder a corpus is prepared into: published whole, recognised later, checked when opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from configs.errors import InputError, RunError

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One kind of text in the corpus."""

    name: str
    documents: int
    bytes: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A corpus as tokens: a folder with a tokenizer and two token files."""

    folder: Path
    fingerprint: str  # SHA-256 of everything the tokens depend on
    source: str  # where the text came from, for people
    sources: tuple[Source, ...]
    documents: int
    train_tokens: int
    validation_tokens: int

    @property
    def train(self) -> Path:
        """The prefix of the .bin and .idx files."""
        return self.folder / "train"

    @property
    def validation(self) -> Path:
        """The prefix of the .bin and .idx files."""
        return self.folder / "validation"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer.json"


def seal(prepared: Prepared) -> None:
    """Writes the manifest: all of `prepared` but its folder, and the size of every file there."""
    content = {key: value for key, value in asdict(prepared).items() if key != "folder"}
    content["files"] = {path.name: path.stat().st_size for path in prepared.folder.iterdir()}
    text = json.dumps(content, indent=2) + "\n"
    (prepared.folder / MANIFEST).write_text(text, encoding="utf-8")


def reopen(folder: Path) -> Prepared:
    """What an earlier preparation left in `folder`. Raises InputError if a file is not whole."""
    content = check_whole(folder)
    content["sources"] = tuple(Source(**source) for source in content["sources"])
    del content["files"]
    return Prepared(folder=folder, **content)


def check_whole(folder: Path) -> dict[str, Any]:
    """The manifest. Raises InputError naming the file that is missing, cut short or damaged."""
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sizes: dict[str, int] = content["files"]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(folder, f"{folder / MANIFEST} cannot be read") from error
    for name, size in sizes.items():
        path = folder / name
        actual = path.stat().st_size if path.is_file() else None
        if actual is None:
            raise _damaged(folder, f"{path} is missing")
        if actual != size:
            raise _damaged(folder, f"{path} has {actual:,} bytes where {size:,} were written")
    return content


def publish(root: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """`root/name`, filled in a folder of its own and renamed, so that it is whole or absent.

    If another process publishes it first, its work is taken and ours discarded.
    Raises InputError if `root` cannot be written, RunError if filling fails, as on a full disk.
    """
    target, scratch = root / name, root / f".{name}.{uuid4().hex}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
    except OSError as error:
        raise InputError(f"corpus.cache: cannot write in {root}: {error.strerror}") from error
    try:
        fill(scratch)
        scratch.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise RunError(f"preparing {target} failed: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"{what}: delete the folder {folder} and run again")
