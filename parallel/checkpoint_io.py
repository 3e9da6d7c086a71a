"""Tensors to a checkpoint's files and back: torch's distributed checkpoint, with fewer passes.

A byte is hashed while it is in memory on its way to the disk, so what the disk gives back is
compared by its digest; and digests are looked at beside the loading, not before it.
"""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from configs.errors import RunError
from parallel import checkpoint_files as files
from parallel.checkpoint_files import Digest

Tensors = dict[str, Any]  # by global name: a whole tensor, or a DTensor that knows its place
_OVERHEAD = 2  # a file of tiny tensors is up to this many times their size
_WRITERS = 2  # files that a rank writes at a time


def write(
    tensors: Tensors, folder: Path, group: ProcessGroup | None = None, alone: bool = False
) -> dict[str, Digest]:
    """Writes this rank's part; collective over `group`, or in one process `alone`.

    Returns the digests of the files that this rank wrote, of what was in memory. Raises RunError
    where the disk is full.
    """
    writer = FileSystemWriter(folder, sync_files=True, thread_count=_WRITERS)
    writer.fs = disk = _HashingFileSystem()
    try:
        with _quiet(), _without_crc32():
            save(
                {name: _of_its_own(tensor) for name, tensor in tensors.items()},
                storage_writer=writer,
                process_group=group,
                no_dist=alone,
            )
    except CheckpointException:
        # torch's zip writer loses the reason on the way, and deletes what it could not finish.
        size = sum(local(tensor).nbytes for tensor in tensors.values())
        if shutil.disk_usage(folder).free < size * _OVERHEAD:
            raise RunError(f"the disk of {folder.parent} is full") from None
        raise
    return disk.digests


def read(tensors: Tensors, checkpoint: Path, names: list[str], alone: bool = False) -> None:
    """Fills the tensors; collective, or in one process `alone`.

    Raises Damaged where a file of those names is not what was written. The tensors may then hold
    anything. torch unpickles `.metadata`, whose digest must have been looked at before.
    """
    failures: list[BaseException] = []

    def check() -> None:
        try:
            files.require_digests(checkpoint, names)
        except BaseException as error:
            failures.append(error)

    checker = threading.Thread(target=check, name="digests", daemon=True)
    checker.start()
    try:
        with _quiet():
            load(tensors, storage_reader=FileSystemReader(checkpoint), no_dist=alone)
    finally:
        checker.join()
        if failures:  # the reason for whatever else went wrong
            raise failures[0] from None


def local(tensor: Tensor | DTensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _of_its_own(tensor: Tensor | DTensor) -> Tensor | DTensor:
    """The same memory as a storage that ends where the tensor ends. torch copies any other."""
    if isinstance(tensor, DTensor):
        return DTensor.from_local(
            _of_its_own(tensor.to_local()), tensor.device_mesh, tensor.placements, run_check=False
        )
    return torch.from_numpy(tensor.detach().numpy()) if tensor.is_contiguous() else tensor


class _HashingFileSystem(FileSystem):
    """Knows the digest of each file that was written, by its name."""

    def __init__(self) -> None:
        self.digests: dict[str, Digest] = {}

    @contextmanager
    def create_stream(self, path: str | PathLike[str], mode: str) -> Generator[Any, None, None]:
        with super().create_stream(path, mode) as stream:
            if mode != "wb":
                yield stream
                return
            hashed = files.HashingFile(stream)
            yield hashed
            self.digests[Path(path).name.removesuffix(".tmp")] = hashed.digest()


@contextmanager
def _without_crc32() -> Generator[None, None, None]:
    """A pass over everything that digests of whole files make needless."""
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
