"""Resumes from the newest intact checkpoint: damage costs steps, never the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from configs.schema import Run
from launcher.huggingface.begin import load
from launcher.training.broadcast import broadcast_from_rank0
from parallel.checkpoint import manifest as files
from parallel.checkpoint.manifest import Damaged, TrainState
from parallel.checkpoint.store import CheckpointStore
from parallel.engines.base import Engine


def load_newest_whole(
    store: CheckpointStore, engine: Engine, checkpoint: Path, run: Run, say: Callable[[str], None]
) -> tuple[Path, TrainState]:
    """Loads `checkpoint`, or the newest intact earlier one of the run; returns its path and state.
    It may be a folder of Hugging Face's.

    Renames the run's damaged checkpoints, including newer ones, to step_N.damaged. Collective.
    Raises Damaged if none is left.
    """
    if files.is_huggingface(checkpoint):
        return checkpoint, load(engine, replace(run, checkpoint=str(checkpoint)))
    own = checkpoint.parent.resolve() == store.folder.resolve()
    if own:
        broadcast_from_rank0(lambda: _set_aside_newer(checkpoint, say))
    while True:
        try:
            return checkpoint, store.load(engine, checkpoint)
        except Damaged as error:
            earlier = files.older(checkpoint) if own else None
            if earlier is None:
                raise
            aside = broadcast_from_rank0(partial(files.set_aside, checkpoint))
            say(f"{error}; it is {aside.name} now; going on from {earlier}")
            checkpoint = earlier
            torch.distributed.barrier()


def _set_aside_newer(checkpoint: Path, say: Callable[[str], None]) -> None:
    """Renames newer checkpoints that were passed over because files are missing or truncated."""
    for newer in files.complete_checkpoints(checkpoint.parent):
        if newer.name <= checkpoint.name:
            continue
        try:
            files.require_complete(newer)
        except Damaged as error:
            say(f"{error}; it is {files.set_aside(newer).name} now")
