"""A checkpoint's files: contents, completeness, which one is the newest. Imports no torch.

checkpoints/step_00000100/   published by one rename, so it is either complete or absent
    state.json               the training state, and the model's shape
    tokenizer.json
    manifest.json            size and XXH3 of every other file
    .metadata, __*.distcp    torch's distributed checkpoint: tensors by global name
checkpoints/latest           a link to the newest, moved last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import xxhash

from configs.errors import InputError, RunError
from configs.reading import is_plain_name, read_small
from models.shape import ModelShape, from_json, to_json
from parallel.checkpoint.direct_io import read_blocks

STATE = "state.json"
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
LATEST = "latest"
HUGGINGFACE = "config.json"
DAMAGED = ".damaged"
_UNFINISHED = ".unfinished"
_DATA_SUFFIX = ".distcp"
_PIECE = 1 << 20  # bytes; larger pieces exceed a core's cache
FILES_AT_A_TIME = 2  # read or written concurrently by a rank
_FORMAT = 1
_BYTES = 4  # of a float32, as weights are stored

XXH3 = "xxh3_128"  # detects accidental damage; many times as fast as a cryptographic digest
SHA256 = "sha256"  # of older checkpoints
Digest = dict[str, Any]
"""A file's digest: "bytes", and XXH3 or SHA256 in hexadecimal digits."""


class Damaged(InputError):
    """A checkpoint's content differs from what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """The training state at the time of the checkpoint; the next step follows from it."""

    step: int
    samples: int
    tokens: int
    seed: int
    corpus: str  # fingerprint of the token files
    adam_step: int
    scaler: dict[str, float]
    model: dict[str, Any]  # ModelShape's fields, including the unpadded vocabulary
    sample_ids: str = ""  # fingerprint of the samples read so far
    shares: dict[str, float] = field(default_factory=dict)  # of the sources; determine data order
    # biases and loads of each layer's experts
    routers: dict[str, list[list[float]]] = field(default_factory=dict)
    format: int = _FORMAT

    def write(self, folder: Path) -> None:
        """Writes state.json into the folder."""
        (folder / STATE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def before_training(cls, shape: ModelShape, seed: int) -> TrainState:
        """The state of a model that has taken no step."""
        return cls(
            step=0,
            samples=0,
            tokens=0,
            seed=seed,
            corpus="",
            adam_step=0,
            scaler={},
            model=to_json(shape),
        )

    @classmethod
    def read(cls, folder: Path) -> TrainState:
        """Raises InputError if the folder holds no checkpoint of ours."""
        try:
            state = cls(**json.loads(read_small(folder / STATE)))
            state.shape()
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"checkpoint={folder}: no readable {STATE} in it ({error})") from None
        return state

    def shape(self) -> ModelShape:
        """Raises ValueError, TypeError or KeyError if the model's fields are not a shape."""
        return from_json(self.model)

    def require_shape(self, shape: ModelShape, folder: Path) -> None:
        """Raises InputError naming every setting in which the checkpoint's model differs."""
        there, here = to_json(self.shape()), to_json(shape)
        differs = [
            f"model.{key} is {there[key]} there, {here[key]} here"
            for key in here
            if there[key] != here[key]
        ]
        if differs:
            raise InputError(f"checkpoint={folder} is of another model: {'; '.join(differs)}")


def step_folder(checkpoints: Path, step: int) -> Path:
    """The folder of a published checkpoint."""
    return checkpoints / f"step_{step:08d}"


def unfinished_folder(checkpoints: Path, step: int) -> Path:
    """The folder that a checkpoint is written into before it is published."""
    return checkpoints / f"step_{step:08d}{_UNFINISHED}"


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """Published checkpoints, oldest first."""
    return sorted(p for p in checkpoints.glob("step_*") if p.name[5:].isdigit())


def is_huggingface(path: Path) -> bool:
    """Whether it is a folder of Hugging Face's, which has a config.json where ours have none."""
    return (path / HUGGINGFACE).is_file()


def find(path: Path) -> Path:
    """The checkpoint in a checkpoint's folder, a `checkpoints` folder or a run's folder.

    Raises InputError if there is none.
    """
    for folder in (path, path / "checkpoints"):
        if (folder / STATE).exists():
            return folder.resolve()
        newest = folder / LATEST
        if (newest / STATE).exists():
            return newest.resolve()
        if found := complete_checkpoints(folder):
            return found[-1].resolve()
    if not path.exists():
        raise InputError(f"checkpoint={path}: there is no such folder")
    if is_huggingface(path):
        raise InputError(
            f"checkpoint={path}: is a folder of Hugging Face's, which this command does not read; "
            f"nearest: phalanx convert convert.source={path} run_dir=NEW makes a run of it"
        )
    raise InputError(f"checkpoint={path}: there is no checkpoint in it")


def newest_whole(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest with all files at their full size, and what is wrong with newer ones."""
    wrong = []
    for folder in reversed(complete_checkpoints(checkpoints)):
        try:
            require_complete(folder)
        except Damaged as error:
            wrong.append(str(error))
        else:
            return folder.resolve(), wrong
    return None, wrong


def older(checkpoint: Path) -> Path | None:
    """The previous checkpoint of the same run."""
    before = [p for p in complete_checkpoints(checkpoint.parent) if p.name < checkpoint.name]
    return before[-1] if before else None


def set_aside(checkpoint: Path) -> Path:
    """Renames a damaged checkpoint so that it is ignored from now on; returns the new path."""
    aside = checkpoint.with_name(checkpoint.name + DAMAGED)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(checkpoint, aside)
    sync_folder(checkpoint.parent)
    return aside


class WritableFile(Protocol):
    """A file whose `write` accepts all data."""

    def write(self, data: memoryview, /) -> int:
        """Returns the number of bytes taken, which is all of them."""

    def tell(self) -> int:
        """Bytes taken so far."""

    def flush(self) -> None:
        """Passes on buffered data, if possible."""

    def close(self) -> None:
        """Writes the remaining data and closes."""


class HashingFile:
    """A file whose data is hashed in memory while it is being written."""

    def __init__(self, file: WritableFile) -> None:
        self._file = file
        self._hash = xxhash.xxh3_128()
        self.tell, self.flush, self.close = file.tell, file.flush, file.close
        self._bytes = 0

    def write(self, data: Any) -> int:
        """Hashes and writes the bytes of any contiguous buffer; returns how many."""
        view = memoryview(data).cast("B")
        for first in range(0, len(view), _PIECE):
            piece = view[first : first + _PIECE]
            self._hash.update(piece)
            self._file.write(piece)
        self._bytes += len(view)
        return len(view)

    def digest(self) -> Digest:
        """The digest of all bytes written so far."""
        return {"bytes": self._bytes, XXH3: self._hash.hexdigest()}


def file_digest(path: Path, kind: str = XXH3) -> Digest:
    """The digest of a file as read from disk."""
    size = 0
    digest = _hash(kind)
    for block in read_blocks(path):
        digest.update(block)
        size += len(block)
    return {"bytes": size, kind: digest.hexdigest()}


def _hash(kind: str) -> Any:
    return hashlib.sha256() if kind == SHA256 else xxhash.xxh3_128()


def verified_blocks(path: Path, known: Digest) -> Iterator[memoryview]:
    """A file's blocks; a block is valid until the next is requested.

    Raises Damaged after the last one if the file is not what was written.
    """
    kind = SHA256 if SHA256 in known else XXH3
    digest, size = _hash(kind), 0
    for block in read_blocks(path):
        digest.update(block)
        size += len(block)
        yield block
    if {"bytes": size, kind: digest.hexdigest()} != known:
        raise Damaged(f"checkpoint={path.parent}: {path.name} is damaged")


def write_manifest(folder: Path, files: dict[str, Digest]) -> None:
    """Writes manifest.json with the digests, sorted by file name."""
    text = json.dumps({"files": dict(sorted(files.items()))}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Digest]:
    """Raises Damaged if it cannot be read, or names anything but a file in the folder."""
    try:
        found: dict[str, Digest] = json.loads(read_small(folder / MANIFEST))["files"]
        for name, digest in found.items():
            if not is_plain_name(name):
                raise ValueError(f"it names the file {name!r}")
            if type(digest["bytes"]) is not int or not digest.keys() & {XXH3, SHA256}:
                raise ValueError(f"it has no digest of {name}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"checkpoint={folder}: no readable {MANIFEST} in it ({error})") from None
    return found


def shape_in(folder: Path) -> ModelShape:
    """The shape of the model in a checkpoint.

    Raises InputError if it cannot be read, or its parameters would not fit into the files.
    """
    shape = TrainState.read(folder).shape()
    stored = sum(digest["bytes"] for digest in read_manifest(folder).values())
    if shape.parameters * _BYTES > stored:
        raise InputError(
            f"checkpoint={folder}: {STATE} tells of {shape.parameters:,} parameters, and its files "
            f"have {stored:,} bytes"
        )
    return shape


def require_room(checkpoints: Path, size: int) -> None:
    """Raises RunError unless a checkpoint of so many bytes fits on the disk of the folder."""
    free = shutil.disk_usage(checkpoints).free
    if free < size:
        raise RunError(
            f"the disk of {checkpoints} is full: a checkpoint takes {size / 2**20:,.1f} MiB, "
            f"{free / 2**20:,.1f} MiB are free"
        )


def by_kind(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the files that hold tensors, and of the others."""
    names = sorted(read_manifest(folder))
    data = [name for name in names if name.endswith(_DATA_SUFFIX)]
    return data, [name for name in names if name not in data]


def require_complete(folder: Path) -> None:
    """Raises Damaged naming the first file that is missing or has the wrong size."""
    for name, written in read_manifest(folder).items():
        path = folder / name
        found = path.stat().st_size if path.exists() else None
        if found is None:
            raise Damaged(f"checkpoint={folder}: {name} is missing{_others(folder)}")
        if path.is_symlink() and path.resolve().parent != folder.resolve():
            raise Damaged(
                f"checkpoint={folder}: {name} is a link to a file elsewhere; nearest: the file "
                "itself in its place"
            )
        if found != written["bytes"]:
            raise Damaged(
                f"checkpoint={folder}: {name} has {found} bytes, {written['bytes']} were written"
                f"{_others(folder)}"
            )


def require_digests(folder: Path, names: Iterable[str]) -> None:
    """Raises Damaged naming the first file whose content differs from what was written."""
    written = read_manifest(folder)
    for name in names:
        known = written[name]
        kind = SHA256 if SHA256 in known else XXH3
        if file_digest(folder / name, kind) != known:
            raise Damaged(
                f"checkpoint={folder}: {name} is damaged (its {kind} is not the manifest's)"
                f"{_others(folder)}"
            )


def _others(folder: Path) -> str:
    others = [p for p in complete_checkpoints(folder.parent) if p.name != folder.name]
    return f"; an earlier one: checkpoint={others[-1]}" if others else ""


def publish(unfinished: Path, final: Path) -> None:
    """Makes a finished checkpoint visible by one rename, then moves `latest`."""
    sync_folder(unfinished)
    if final.exists():  # the run rolled back and has reached this step again
        discard(final)
    os.rename(unfinished, final)
    sync_folder(final.parent)
    link = final.parent / f".{LATEST}"
    link.unlink(missing_ok=True)
    link.symlink_to(final.name)
    os.replace(link, final.parent / LATEST)
    sync_folder(final.parent)


def prune(checkpoints: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints; 0 keeps all."""
    if keep > 0:
        for folder in complete_checkpoints(checkpoints)[:-keep]:
            discard(folder)


def clear_unfinished(checkpoints: Path) -> None:
    """Deletes what a killed run left partly written or partly deleted."""
    for folder in checkpoints.glob(f"*{_UNFINISHED}"):
        shutil.rmtree(folder, ignore_errors=True)


def discard(folder: Path) -> None:
    """Deletes a checkpoint in such a way that a partial one never looks complete."""
    condemned = folder.with_name(f"{folder.name}.deleted{_UNFINISHED}")
    shutil.rmtree(condemned, ignore_errors=True)
    os.rename(folder, condemned)
    shutil.rmtree(condemned)


def sync_folder(folder: Path) -> None:
    """Syncs a folder so that renames within it survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
