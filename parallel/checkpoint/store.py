"""Saves and loads an engine's state, independent of the layout and the engine.

A save first copies everything to host memory; the rest may run concurrently with training, as in
torch's `async_save`, whose thread ends after writing the files, without verifying them.

Each parameter has three float32 tensors under its global name: the master weight and Adam's two
moments. Muon has no second one of its matrices; Adam takes zeros for it. torch's distributed
checkpoint stores them by global position, so any layout reads any other's. The weights of a
half-precision model are the rounded master weights.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.api import CheckpointException

from configs.errors import InputError, RunError
from parallel.checkpoint import manifest as files
from parallel.checkpoint.arena import Arena
from parallel.checkpoint.io import read, write
from parallel.checkpoint.manifest import Digest, TrainState
from parallel.checkpoint.metadata import read_metadata
from parallel.checkpoint.shards import Shard
from parallel.engines.base import Engine, OptimizerTensors, ParameterPart, WeightTaker

KINDS = ("master", "exp_avg", "exp_avg_sq")
SECOND_MOMENT = KINDS[-1]
Result = TypeVar("Result")


class CheckpointStore:
    """The checkpoints of one run. Every method is collective: all ranks call it together.

    Args:
        folder: the run's `checkpoints` folder, on a disk that all ranks share.
        tokenizer: a file copied into every checkpoint, so that a checkpoint suffices to generate.
        beside: all ranks, on a CPU backend reserved for coordinating saves while training goes on.
            None: saves are synchronous, finished when `begin_save` returns.
        may_publish: raises RunError on rank 0 if another run has taken over the folder.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Path | None,
        beside: ProcessGroup | None = None,
        may_publish: Callable[[], None] | None = None,
    ) -> None:
        self.folder = folder
        self._may_publish = may_publish or (lambda: None)
        self.tokenizer = tokenizer
        self._beside = beside
        self._copies: dict[str, Tensor] = {}  # reused by every save
        self._arena: Arena | None = None  # their memory
        self._under_way: Future[None] | None = None

    def save(self, engine: Engine, state: TrainState, keep: int) -> Path:
        """Saves synchronously; returns the checkpoint's folder. Raises what `finish` raises."""
        self.begin_save(engine, state, keep)
        self.finish()
        return files.step_folder(self.folder, state.step)

    def begin_save(self, engine: Engine, state: TrainState, keep: int) -> None:
        """Copies the engine's state, then writes, reads back, verifies and publishes it.

        The engine may continue training as soon as this returns. Waits for the previous save first
        and raises what `finish` raises for it.
        """
        self.finish()
        tensors = self._export(engine)
        if self._beside is None:
            self._save_copies(tensors, state, keep)
        else:
            self._under_way = _in_a_thread(lambda: self._save_copies(tensors, state, keep))

    def has_failed(self) -> bool:
        """Whether this rank knows that the save in progress has failed. Not collective."""
        done = self._under_way is not None and self._under_way.done()
        return done and self._under_way is not None and self._under_way.exception() is not None

    def finish(self) -> None:
        """Waits for the save in progress.

        Raises RunError on every rank if anything failed; earlier checkpoints are unaffected.
        """
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def _save_copies(self, tensors: dict[str, Shard], state: TrainState, keep: int) -> None:
        final = files.step_folder(self.folder, state.step)
        unfinished = files.unfinished_folder(self.folder, state.step)
        group = self._beside
        size = sum(_gather(sum(shard.local.nbytes for shard in tensors.values()), group))
        try:
            _together(lambda: self._begin(unfinished, state, size), group)
            written = _gather(_together(lambda: write(tensors, unfinished, group), group), group)
            found = _gather(_together(lambda: _read_back(unfinished, written), group), group)
            _together(lambda: self._publish(unfinished, final, found, keep), group)
        except (InputError, RunError) as error:
            if torch.distributed.get_rank() == 0:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise RunError(
                f"the checkpoint of step {state.step} was not saved: {error}; "
                f"earlier ones in {self.folder} are unharmed"
            ) from None

    def load(self, engine: Engine, checkpoint: Path) -> TrainState:
        """Loads weights and optimizer state into the engine, under its own layout.

        Moments are 0 where a checkpoint from before the first step has none. Raises Damaged on
        every rank if the checkpoint is damaged: the engine's state is then undefined until another
        checkpoint is loaded.
        """
        parts = engine.parameters()
        own = {
            f"{kind}.{at.name}": getattr(tensors, kind)
            for at, tensors in zip(parts, engine.own_state(), strict=True)
            for kind in KINDS
            if tensors is not None and getattr(tensors, kind) is not None
        }
        tensors = self._load(checkpoint, parts, KINDS, own)
        state = TrainState.read(checkpoint)
        engine.import_state(self._by_parameter(parts, tensors), state.adam_step)
        engine.load_scaler_state(state.scaler)
        engine.load_router_state(state.routers)
        return state

    def load_weights(self, model: WeightTaker, checkpoint: Path) -> TrainState:
        """Loads only the weights, for a model that will not be trained."""
        parts = model.parameters()
        tensors = self._load(checkpoint, parts, KINDS[:1], {})
        model.import_weights((at, tensors[f"master.{at.name}"].local) for at in parts)
        return TrainState.read(checkpoint)

    def _export(self, engine: Engine) -> dict[str, Shard]:
        tensors: dict[str, Shard] = {}
        for at, state in engine.export_state():
            for kind in KINDS:
                name, tensor = f"{kind}.{at.name}", getattr(state, kind)
                if tensor is not None:
                    tensors[name] = self._place(at, self._copy(name, tensor))
        return tensors

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        """A copy in host memory, separate from the engine's if training continues meanwhile."""
        if self._beside is None:
            return tensor.cpu()
        copy = self._copies.get(name)
        if copy is None:
            self._arena = self._arena or Arena(pinned=tensor.is_cuda)
            copy = self._arena.empty_like(tensor)
            self._copies[name] = copy
        return copy.copy_(tensor)

    def _place(self, at: ParameterPart, local: Tensor) -> Shard:
        return Shard(local, at.part, at.whole, at.padded)

    def _begin(self, unfinished: Path, state: TrainState, size: int) -> None:
        if torch.distributed.get_rank() != 0:
            return
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        files.require_room(self.folder, size)
        state.write(unfinished)
        if self.tokenizer is not None:
            shutil.copyfile(self.tokenizer, unfinished / files.TOKENIZER)

    def _publish(
        self, unfinished: Path, final: Path, digests: list[dict[str, Digest]], keep: int
    ) -> None:
        if torch.distributed.get_rank() == 0:
            files.write_manifest(unfinished, _union(digests))
            self._may_publish()
            files.publish(unfinished, final)
            files.prune(final.parent, keep)

    def _load(
        self,
        checkpoint: Path,
        parts: list[ParameterPart],
        kinds: tuple[str, ...],
        own: dict[str, Tensor],
    ) -> dict[str, Shard]:
        """Loads into new memory, or in place for tensors in `own`."""
        _together(lambda: files.require_complete(checkpoint))
        data, small = files.by_kind(checkpoint)
        _together(lambda: files.require_digests(checkpoint, _share(small)))
        metadata = _together(lambda: read_metadata(checkpoint))
        shapes = {
            name: at
            for kind in kinds
            for at in parts
            if (name := f"{kind}.{at.name}") in metadata.state_dict_metadata
            or kind != SECOND_MOMENT
        }
        tensors = {
            name: self._place(at, own[name] if name in own else torch.empty(at.shape))
            for name, at in shapes.items()
        }
        there = {_kind(name) for name in metadata.state_dict_metadata}
        if TrainState.read(checkpoint).adam_step:
            there |= set(KINDS)  # the reader refuses a checkpoint that lacks moments by now
        stored = {n: it for n, it in tensors.items() if _kind(n) in there | {KINDS[0]}}
        for name in tensors.keys() - stored.keys():
            tensors[name].local.zero_()
        proven = _gather(
            _together(lambda: read(stored, checkpoint, _share(data), metadata=metadata))
        )
        left = [name for name in data if not any(name in each for each in proven)]
        _together(lambda: files.require_digests(checkpoint, _share(left)))
        return tensors

    def _by_parameter(
        self, parts: list[ParameterPart], tensors: dict[str, Shard]
    ) -> Iterator[tuple[ParameterPart, OptimizerTensors]]:
        for at in parts:
            names = {kind: f"{kind}.{at.name}" for kind in KINDS}
            kinds = {k: tensors.pop(name).local for k, name in names.items() if name in tensors}
            yield at, OptimizerTensors(**kinds)


def _kind(name: str) -> str:
    return name.partition(".")[0]


def _in_a_thread(action: Callable[[], None]) -> Future[None]:
    """Uses a daemon thread: a failing rank must not wait for one that waits for other ranks."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            action()
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="save", daemon=True).start()
    return future


def _together(action: Callable[[], Result], group: ProcessGroup | None = None) -> Result:
    """Runs an action on every rank; if it fails on any rank, raises that failure on all."""
    result: Result
    failure: tuple[type[InputError | RunError], str] | None = None
    try:
        result = action()
    except InputError as error:
        failure = (type(error), str(error))
    except (Exception, CheckpointException) as error:  # reported to the user in one line
        failure = (RunError, _in_one_line(error))
    failures = [each for each in _gather(failure, group) if each is not None]
    # Errors that the user can fix take precedence, as they cause the others.
    for kind, message in sorted(failures, key=lambda each: not issubclass(each[0], InputError)):
        raise kind(message)
    return result


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, CheckpointException):  # torch's report of each rank's first failure
        error = next(iter(error.failures.values()))[0]
    for link in _chain(error):
        if isinstance(link, OSError):  # the operating system's error is the actionable one
            error = link
    return " ".join(f"{type(error).__name__}: {error}".split())


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or link.__context__


def _gather(own: Result, group: ProcessGroup | None = None) -> list[Result]:
    """Every rank's value, on every rank."""
    everyone: list[Result] = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, own, group=group)
    return everyone


def _read_back(folder: Path, written: list[dict[str, Digest]]) -> dict[str, Digest]:
    """The digests of this rank's share of the files, verified against those computed in memory."""
    in_memory = _union(written)
    names = _share(sorted(path.name for path in folder.iterdir()))
    with ThreadPoolExecutor(files.FILES_AT_A_TIME) as readers:
        digests = readers.map(lambda name: files.file_digest(folder / name), names)
        found = dict(zip(names, digests, strict=True))
    for name, digest in found.items():
        if digest != in_memory.get(name, digest):
            raise RunError(f"{name} reads back otherwise than it was written")
    return found


def _share(names: list[str]) -> list[str]:
    """This rank's share of work that any rank can do."""
    return names[torch.distributed.get_rank() :: torch.distributed.get_world_size()]


def _union(digests: list[dict[str, Digest]]) -> dict[str, Digest]:
    return {name: digest for each in digests for name, digest in each.items()}
