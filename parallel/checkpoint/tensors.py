"""A checkpoint's full tensors in one process, for comparison and conversion, not for training."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from parallel.checkpoint import manifest as files
from parallel.checkpoint.io import read, write
from parallel.checkpoint.manifest import TrainState
from parallel.checkpoint.metadata import read_metadata
from parallel.checkpoint.shards import Saved, unsharded
from parallel.checkpoint.store import KINDS


def read_tensors(checkpoint: Path, kinds: tuple[str, ...] = KINDS) -> dict[str, Tensor]:
    """A checkpoint's full tensors as "KIND.NAME", in this process only, in host memory.

    Raises InputError if the checkpoint is damaged.
    """
    files.require_complete(checkpoint)
    data, small = files.by_kind(checkpoint)
    files.require_digests(checkpoint, small)
    metadata = read_metadata(checkpoint)
    tensors = {
        name: torch.empty(stored.size)
        for name, stored in metadata.state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata) and name.partition(".")[0] in kinds
    }
    shards = {name: unsharded(tensor) for name, tensor in tensors.items()}
    proven = read(shards, checkpoint, data, alone=True, metadata=metadata)
    files.require_digests(checkpoint, [name for name in data if name not in proven])
    return tensors


def write_tensors(tensors: Saved, state: TrainState, tokenizer: Path, checkpoints: Path) -> Path:
    """Publishes a checkpoint of full tensors "KIND.NAME" by one process; returns its folder.

    It may have masters alone: a run that begins with it has moments of 0. Files are not read back,
    since their source is still there; the manifest has the digests of what was written. Raises
    RunError if the disk is full; nothing is left of an unfinished checkpoint.
    """
    final = files.step_folder(checkpoints, state.step)
    unfinished = files.unfinished_folder(checkpoints, state.step)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        files.require_room(checkpoints, sum(each.nbytes for each in tensors.values()))
        state.write(unfinished)
        shutil.copyfile(tokenizer, unfinished / files.TOKENIZER)
        written = write(tensors, unfinished, alone=True)
        digests = {
            path.name: written.get(path.name) or files.file_digest(path)
            for path in sorted(unfinished.iterdir())
        }
        files.write_manifest(unfinished, digests)
        files.publish(unfinished, final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return final
