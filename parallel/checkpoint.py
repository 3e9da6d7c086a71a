"""Saves and loads what an engine holds, whatever the layout and the engine.

Three float32 tensors a parameter, under its global name: the master weight and Adam's two moments.
torch's distributed checkpoint stores them by global position, so any layout reads any other's.
The weights a half-precision model computes with are the master weights rounded.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from configs.errors import InputError, RunError
from parallel import checkpoint_files as files
from parallel.checkpoint_files import TrainState
from parallel.engine import Engine, OptimizerTensors, ParameterPart

KINDS = ("master", "exp_avg", "exp_avg_sq")
_OVERHEAD = 2  # a file of tiny tensors is up to this many times their size
Result = TypeVar("Result")
Tensors = dict[str, Any]  # by global name: a whole tensor, or a DTensor that knows its place


class CheckpointStore:
    """The checkpoints of one run. Every method is collective: all ranks call it together.

    Args:
        folder: the run's `checkpoints` folder, on a disk that all ranks share.
        tensor_group: the ranks over which this rank's parameters are split.
        tokenizer: a file that travels with every checkpoint, so that one is enough to generate.
    """

    def __init__(self, folder: Path, tensor_group: ProcessGroup, tokenizer: Path | None) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        # Tensors travel through host memory; the mesh only says who holds which part.
        self.mesh = DeviceMesh.from_group(tensor_group, "cpu")

    def save(self, engine: Engine, state: TrainState, keep: int) -> Path:
        """Writes, reads back, compares, then publishes a checkpoint; returns its folder.

        Raises RunError on every rank where anything fails; earlier checkpoints stay as they were.
        """
        final = files.step_folder(self.folder, state.step)
        unfinished = files.unfinished_folder(self.folder, state.step)
        tensors = self._export(engine)
        size = sum(_gather(sum(_local(tensor).nbytes for tensor in tensors.values())))
        try:
            _together(lambda: self._begin(unfinished, state, size))
            _together(lambda: _write(tensors, unfinished))
            _together(lambda: _read_back(tensors, unfinished))
            digests = _gather(_together(lambda: _digests_of_share(unfinished)))
            _together(lambda: _publish(unfinished, final, digests, keep))
        except (InputError, RunError) as error:
            if torch.distributed.get_rank() == 0:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise RunError(
                f"the checkpoint of step {state.step} was not saved: {error}; "
                f"earlier ones in {self.folder} are unharmed"
            ) from None
        return final

    def load(self, engine: Engine, checkpoint: Path) -> TrainState:
        """Gives the engine the weights and the optimizer's state, under its own layout.

        Raises InputError on every rank where the checkpoint is damaged or of another model.
        """
        state = TrainState.read(checkpoint)
        parts = engine.parameters()
        tensors = self._load(checkpoint, parts, KINDS)
        engine.import_state(self._by_parameter(parts, tensors), state.adam_step)
        engine.load_scaler_state(state.scaler)
        return state

    def load_weights(self, engine: Engine, checkpoint: Path) -> TrainState:
        """Gives the engine the weights only, for a model that will not be trained."""
        parts = engine.parameters()
        tensors = self._load(checkpoint, parts, KINDS[:1])
        engine.import_weights((at, _local(tensors[f"master.{at.name}"])) for at in parts)
        return TrainState.read(checkpoint)

    def _export(self, engine: Engine) -> Tensors:
        tensors: Tensors = {}
        for at, state in engine.export_state():
            for kind in KINDS:
                tensors[f"{kind}.{at.name}"] = self._place(at, getattr(state, kind).cpu())
        return tensors

    def _place(self, at: ParameterPart, local: Tensor) -> Tensor | DTensor:
        if at.part.dim is None:
            return local
        return DTensor.from_local(local, self.mesh, [Shard(at.part.dim)], run_check=False)

    def _begin(self, unfinished: Path, state: TrainState, size: int) -> None:
        if torch.distributed.get_rank() != 0:
            return
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        free = shutil.disk_usage(unfinished).free
        if free < size:
            raise RunError(
                f"the disk of {self.folder} is full: a checkpoint takes {size / 2**20:,.1f} MiB, "
                f"{free / 2**20:,.1f} MiB are free"
            )
        state.write(unfinished)
        if self.tokenizer is not None:
            shutil.copyfile(self.tokenizer, unfinished / files.TOKENIZER)

    def _load(
        self, checkpoint: Path, parts: list[ParameterPart], kinds: tuple[str, ...]
    ) -> Tensors:
        _together(lambda: _check(checkpoint))
        tensors = {
            f"{kind}.{at.name}": self._place(at, torch.empty(at.shape))
            for kind in kinds
            for at in parts
        }
        _together(lambda: _read(tensors, checkpoint))
        return tensors

    def _by_parameter(
        self, parts: list[ParameterPart], tensors: Tensors
    ) -> Iterator[tuple[ParameterPart, OptimizerTensors]]:
        for at in parts:
            kinds = {kind: _local(tensors.pop(f"{kind}.{at.name}")) for kind in KINDS}
            yield at, OptimizerTensors(**kinds)


def _together(action: Callable[[], Result]) -> Result:
    """Runs an action on every rank; if it fails on any, it fails on all, with that rank's words."""
    result: Result
    failure: tuple[bool, str] | None = None
    try:
        result = action()
    except InputError as error:
        failure = (True, str(error))
    except (Exception, CheckpointException) as error:  # told to the user in one line
        failure = (False, _in_one_line(error))
    for of_input, message in filter(None, _gather(failure)):
        raise InputError(message) if of_input else RunError(message)
    return result


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, CheckpointException):  # torch's account of the first failure of each rank
        error = next(iter(error.failures.values()))[0]
    for link in _chain(error):
        if isinstance(link, OSError):  # what the system says is what the user can mend
            error = link
    return " ".join(f"{type(error).__name__}: {error}".split())


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or link.__context__


def _local(tensor: Tensor | DTensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _gather(own: Result) -> list[Result]:
    """What every rank has, on every rank."""
    everyone: list[Result] = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, own)
    return everyone


def _write(tensors: Tensors, folder: Path) -> None:
    try:
        with quiet():
            save(tensors, storage_writer=FileSystemWriter(folder, sync_files=True))
    except CheckpointException:
        # torch's zip writer loses the reason on the way, and deletes what it could not finish.
        size = sum(_local(tensor).nbytes for tensor in tensors.values())
        if shutil.disk_usage(folder).free < size * _OVERHEAD:
            raise RunError(f"the disk of {folder.parent} is full") from None
        raise


def _read(tensors: Tensors, folder: Path) -> None:
    with quiet():
        load(tensors, storage_reader=FileSystemReader(folder))


def _read_back(tensors: Tensors, folder: Path) -> None:
    """Compares what the disk gives back with what is in memory, bit for bit."""
    copies = {
        name: DTensor.from_local(
            torch.empty_like(tensor.to_local()),
            tensor.device_mesh,
            tensor.placements,
            run_check=False,
        )
        if isinstance(tensor, DTensor)
        else torch.empty_like(tensor)
        for name, tensor in tensors.items()
    }
    _read(copies, folder)
    for name, tensor in tensors.items():
        written, read = _local(tensor), _local(copies[name])
        if not torch.equal(written.view(torch.int32), read.view(torch.int32)):
            raise RunError(f"{name} reads back otherwise than it was written")


def _digests_of_share(folder: Path) -> dict[str, dict[str, Any]]:
    names = sorted(path.name for path in folder.iterdir())
    return {name: files.file_digest(folder / name) for name in _share(names)}


def _share(names: list[str]) -> list[str]:
    """This rank's share of work that any rank can do."""
    return names[torch.distributed.get_rank() :: torch.distributed.get_world_size()]


def _publish(
    unfinished: Path, final: Path, digests: list[dict[str, dict[str, Any]]], keep: int
) -> None:
    if torch.distributed.get_rank() == 0:
        together = {name: digest for share in digests for name, digest in share.items()}
        files.write_manifest(unfinished, together)
        files.publish(unfinished, final)
        files.prune(final.parent, keep)


def _check(checkpoint: Path) -> None:
    files.require_whole(checkpoint)
    files.require_digests(checkpoint, _share(sorted(files.read_manifest(checkpoint))))


class quiet(warnings.catch_warnings):
    """torch warns about its own private use of deprecated calls while it saves and loads."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
