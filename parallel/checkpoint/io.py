"""Reads and writes a checkpoint's tensors with torch's distributed checkpoint, in fewer passes.

Data is hashed in memory on its way to the disk, so reading the file back verifies it by its digest;
data is hashed on its way back into memory as well.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from configs.errors import RunError
from parallel.checkpoint import manifest as files
from parallel.checkpoint.direct_io import DirectWriter
from parallel.checkpoint.manifest import Damaged, Digest
from parallel.checkpoint.metadata import read_metadata
from parallel.checkpoint.reader import HashingReader
from parallel.checkpoint.shards import LoadPlanner, Saved, SavePlanner, Shards

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write(
    tensors: Saved, folder: Path, group: ProcessGroup | None = None, alone: bool = False
) -> dict[str, Digest]:
    """Writes this rank's part; collective over `group`, or in one process if `alone`.

    Returns the digests of the files that this rank wrote, computed in memory. Raises RunError if
    the disk is full, else what went wrong first on this rank, an interrupt among it. In a
    collective call a failure of another rank, or before the first file, is a CheckpointException.
    """
    writer = FileSystemWriter(folder, sync_files=False, thread_count=files.FILES_AT_A_TIME)
    writer.fs = disk = _HashingFileSystem()
    try:
        with _quiet():
            save(
                dict(tensors),
                storage_writer=writer,
                planner=SavePlanner(),
                process_group=group,
                no_dist=alone,
            )
    except CheckpointException as error:
        disk.fail(next(iter(error.failures.values()))[0])
        if not alone:
            raise
    if isinstance(disk.failure, OSError) and disk.failure.errno in _FULL:
        raise RunError(f"the disk of {folder.parent} is full") from None
    if disk.failure is not None:
        raise disk.failure
    return disk.digests


def read(
    tensors: Shards,
    checkpoint: Path,
    names: list[str],
    alone: bool = False,
    metadata: Metadata | None = None,
) -> set[str]:
    """Fills the tensors; collective, or in one process if `alone`.

    `metadata` is the checkpoint's: in a collective call all ranks have validated it already.

    Returns the names of the files whose digests this rank verified while reading. Raises Damaged if
    one of those, or of the files `names`, is not what was written: the tensors may then hold
    anything.
    """
    known = read_metadata(checkpoint) if metadata is None else metadata
    reader = HashingReader(checkpoint, files.read_manifest(checkpoint), known)
    try:
        with _quiet():
            load(dict(tensors), storage_reader=reader, planner=LoadPlanner(), no_dist=alone)
    except CheckpointException as error:  # of this rank or another
        files.require_digests(checkpoint, names)
        first = next(iter(error.failures.values()))[0]
        if isinstance(first, Damaged):
            raise Damaged(f"checkpoint={checkpoint}: {first}") from None
        if alone:
            raise RunError(f"checkpoint={checkpoint} cannot be read: {first}") from None
        raise
    return reader.proven


class _HashingFileSystem(FileSystem):
    """Writes files that are on disk once closed; records each one's digest by name.

    The first failure is kept here: torch's zip writer loses the cause of it, and torch the failure
    itself if it is another thread's, whose file would then be missing without a word. After it no
    thread writes any more.
    """

    def __init__(self) -> None:
        self.digests: dict[str, Digest] = {}
        self.failure: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Keeps the first error, and lets no thread write on."""
        self.failure = self.failure or error

    @contextmanager
    def create_stream(self, path: str | PathLike[str], mode: str) -> Generator[Any, None, None]:
        if mode != "wb":
            with super().create_stream(path, mode) as stream:
                yield stream
            return
        try:
            with _without_crc32(), self._opened(Path(path)) as file:
                hashed = files.HashingFile(_Guarded(file, self))
                yield hashed
        except Exception as error:
            self.fail(error)  # `write` raises it, whichever thread this is
        except BaseException as error:
            self.fail(error)
            raise
        else:
            self.digests[Path(path).name.removesuffix(".tmp")] = hashed.digest()

    def _opened(self, path: Path) -> DirectWriter:
        try:
            return DirectWriter(path)
        except OSError as error:
            self.fail(error)
            # What is raised before there is a file, torch's thread would print.
            return DirectWriter(Path(os.devnull))


class _Guarded:
    """A file that tells of its failure, and takes nothing after another one's."""

    def __init__(self, file: DirectWriter, disk: _HashingFileSystem) -> None:
        self._file, self._disk = file, disk
        self.tell, self.flush, self.close = file.tell, file.flush, file.close

    def write(self, data: memoryview) -> int:
        if self._disk.failure is not None:
            raise RuntimeError("another file could not be written")
        try:
            return self._file.write(data)
        except BaseException as error:
            self._disk.fail(error)
            raise


@contextmanager
def _without_crc32() -> Generator[None, None, None]:
    """Skips a checksum pass that full-file digests make redundant; of this thread's files alone,
    as torch keeps the option.
    """
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


class _quiet(warnings.catch_warnings):
    """torch warns about its own private use of deprecated calls while it saves and loads."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
