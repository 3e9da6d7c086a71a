"""The run directory: the files of one run, and whether it is new or resumed.

config.yaml      the resolved configuration that every rank reads
settings.yaml    the requested settings, with `auto` and `null` unresolved; resumes start from it
versions.json    of the packages that ran it
layout.txt       which rank holds what
metrics.jsonl    one line per step
skips.jsonl      one line for each skipped step, with train.on_bad_loss=skip
deepspeed.json   DeepSpeed's configuration, with engine=deepspeed
corpus.json      where the token files are
job.sbatch       the batch script, with launch=slurm; jobs.json holds its job ids
starts.jsonl     one line for each start by a job
failure.txt      the report of the last failure; failures.jsonl holds one line for each failed start
left_out         nodes that jobs exclude
DONE             written after the last step
stopped.json     why the last start saved and ended early
CONVERTING       while a folder of Hugging Face's is made a run: what a killed one left
STOP  SAVE       created by the user: save and end; save now
owner/           the current owner and earlier ones (launcher.run.ownership)
checkpoints/  tensorboard/  logs/rank_N.log  loss.png
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from configs import load as config_files
from configs.atomic import atomic_file, write_atomic
from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from configs.words import listed
from corpus.sources.sources import sources_of
from launcher.huggingface.begin import folder_of, with_its_model
from launcher.huggingface.notices import require_its_tokenizer
from launcher.run import versions
from launcher.run.multirun import own_name, require_own_folder
from launcher.run.ownership import FOLDER as OWNER
from launcher.run.resolve import ResolvedRun
from launcher.run.settings import SETTINGS, key_of
from models.shape import to_json
from parallel.batch_schedule import steps_of
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths in a run directory, which need not exist, and the contents of its files."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration that every rank reads."""
        return self.path / "config.yaml"

    @property
    def settings(self) -> Path:
        """The requested settings, with `auto` and `null` unresolved."""
        return self.path / SETTINGS

    @property
    def versions(self) -> Path:
        """Versions of the packages that ran it."""
        return self.path / "versions.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per line and step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Holds one folder step_N per checkpoint."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Holds rank_N.log and the notes of failed ranks."""
        return self.path / "logs"

    @property
    def corpus(self) -> Path:
        """Names the folder that the corpus was prepared into."""
        return self.path / "corpus.json"

    @property
    def script(self) -> Path:
        """The batch script, with launch=slurm."""
        return self.path / "job.sbatch"

    @property
    def jobs(self) -> Path:
        """The ids of the run's SLURM jobs."""
        return self.path / "jobs.json"

    @property
    def starts(self) -> Path:
        """One JSON object per line for each start by a job."""
        return self.path / "starts.jsonl"

    @property
    def done(self) -> Path:
        """Exists once the last step is done."""
        return self.path / "DONE"

    @property
    def stopped(self) -> Path:
        """Why the last start saved and ended early."""
        return self.path / "stopped.json"

    @property
    def skips(self) -> Path:
        """One JSON object per line for each skipped step."""
        return self.path / "skips.jsonl"

    @property
    def failure(self) -> Path:
        """The report of the last failure, as text."""
        return self.path / "failure.txt"

    @property
    def failures(self) -> Path:
        """One JSON object per line for each failed start."""
        return self.path / "failures.jsonl"

    @property
    def left_out(self) -> Path:
        """Nodes that jobs exclude."""
        return self.path / "left_out"

    @property
    def stop_file(self) -> Path:
        """Users create it to make the run save and end."""
        return self.path / "STOP"

    @property
    def save_file(self) -> Path:
        """Users create it to make the run save a checkpoint now."""
        return self.path / "SAVE"

    @property
    def converting(self) -> Path:
        """Exists while `phalanx convert` fills the directory, and after it was killed."""
        return self.path / "CONVERTING"

    def is_converting(self) -> bool:
        """Whether all that is there was left by a conversion that did not end."""
        return self.converting.exists() and not self.config.exists()

    def clear(self) -> None:
        """Deletes all but the record of its owner, and at last what says that it may be deleted."""
        kept = (OWNER, self.converting.name)
        for path in self.path.iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in kept:
                path.unlink()
        if all(path.name in kept for path in self.path.iterdir()):
            self.converting.unlink(missing_ok=True)

    def read_jobs(self) -> list[int]:
        """The ids of all jobs submitted for the run, oldest first."""
        if not self.jobs.exists():
            return []
        return list(json.loads(self.jobs.read_text(encoding="utf-8")))

    def forget_end(self) -> None:
        """Deletes the last start's outcome before a new start."""
        for path in (self.done, self.stopped, self.save_file):
            path.unlink(missing_ok=True)

    def write_end(self, step: int, stopped_by: str | None) -> None:
        """Records a regular end after `step`: the last step, or early because of `stopped_by`."""
        if stopped_by is None:
            write_atomic(self.done, f"{step}\n")
        else:
            text = json.dumps({"step": step, "reason": stopped_by})
            write_atomic(self.stopped, text + "\n")

    def stopped_by(self) -> tuple[int, str] | None:
        """The step after which the last start was stopped, and the reason."""
        if not self.stopped.exists():
            return None
        said = json.loads(self.stopped.read_text(encoding="utf-8"))
        return said["step"], said["reason"]

    def saved_step(self) -> int:
        """The step of the newest checkpoint; 0 if there is none."""
        whole = manifest.complete_checkpoints(self.checkpoints)
        return int(whole[-1].name.removeprefix("step_")) if whole else 0

    def has_checkpoint(self) -> bool:
        """Whether any checkpoint is complete."""
        return bool(manifest.complete_checkpoints(self.checkpoints))

    def has_entries(self) -> bool:
        """Whether the directory holds anything besides the record of its owner."""
        return self.path.is_dir() and any(path.name != OWNER for path in self.path.iterdir())

    def write(self, run: Run, requested: Run, layout_text: str) -> None:
        """Writes the resolved `run` and the settings `requested` that it was resolved from.

        Raises InputError if the directory cannot be written.
        """
        try:
            for folder in (self.path, self.checkpoints, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.versions, json.dumps(versions.installed()) + "\n")
            write_atomic(self.path / "layout.txt", layout_text)
            for settings, path in ((requested, self.settings), (run, self.config)):
                with atomic_file(path) as unfinished:
                    config_files.save(settings, unfinished)
        except OSError as error:
            raise InputError(f"run_dir={self.path}: {error.strerror}") from None

    def resolved(self) -> Run:
        """The configuration of the last start. Raises InputError if it cannot be read."""
        return config_files.read(self.config)

    def read_versions(self) -> str:
        """JSON; empty for a run older than this file."""
        return self.versions.read_text(encoding="utf-8") if self.versions.exists() else ""

    def requested(self) -> Run:
        """The requested settings. Raises InputError if they cannot be read."""
        return config_files.read(self.settings if self.settings.exists() else self.config)

    def write_corpus(self, folder: Path) -> None:
        """Records the folder that the corpus was prepared into."""
        write_atomic(self.corpus, json.dumps({"folder": str(folder)}) + "\n")

    def write_engine_config(self, engine: str, config: dict[str, Any]) -> None:
        """Writes the configuration passed to the engine."""
        text = json.dumps(config, indent=2)
        write_atomic(self.path / f"{engine}.json", text + "\n")

    def read_corpus(self) -> Path:
        """The folder recorded by `write_corpus`."""
        return Path(json.loads(self.corpus.read_text(encoding="utf-8"))["folder"])


def choose_folder(plan: ResolvedRun) -> RunFolder:
    """`run_dir`, or a new name. Raises InputError if the directory belongs to something else."""
    requested = plan.run.run_dir
    if requested is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        model = plan.run.model.name.replace(os.sep, "_")  # a name must not become a path
        name = f"{model}-{plan.layout}-{stamp}{own_name()}"
        path = Path("runs") / name
        while path.exists():
            path = path.with_name(f"{name}-{os.getpid()}")
        return RunFolder(path.resolve())
    require_own_folder(requested)
    folder = RunFolder(Path(requested).expanduser().resolve())
    if folder.stop_file.exists():
        raise InputError(f"run_dir={requested}: has a STOP file; without it the run goes on")
    if folder.path.is_file():
        raise InputError(f"run_dir={requested}: is a file")
    if folder.has_entries() and not folder.config.exists():
        raise InputError(
            f"run_dir={requested}: is not empty and holds no run; give another or a new one"
        )
    return folder


def begun(run: Run, overrides: list[str]) -> Run:
    """The run with the model of the folder of Hugging Face's that it begins with, if it does.

    Raises InputError for a folder that is not supported, or typed settings that it cannot take.
    """
    if run.run_dir is not None and RunFolder(Path(run.run_dir).expanduser()).config.exists():
        return run  # whose settings have it already
    typed = [key_of(each) for each in overrides]
    require_its_tokenizer(run, typed)
    return with_its_model(run, typed)


def checkpoint_to_load(plan: ResolvedRun, folder: RunFolder) -> Path | None:
    """The checkpoint to resume from: the run's newest complete one, else `checkpoint`, else None.

    A `checkpoint` inside the run's own directory rolls the run back to it; one that is a folder of
    Hugging Face's is where a run begins.
    Raises InputError if none is complete, or it belongs to another model.
    """
    path: Path | None = None
    published = folder_of(plan.run)
    if published is not None:
        if not folder.has_checkpoint():
            published.require_whole()
            return published.path
    elif plan.run.checkpoint is not None:
        requested = manifest.find(Path(plan.run.checkpoint).expanduser())
        if folder.checkpoints in requested.parents or not folder.has_checkpoint():
            manifest.require_complete(requested)
            path = requested
    if path is None and folder.has_checkpoint():
        path, damage = manifest.newest_whole(folder.checkpoints)
        if path is None:
            raise InputError(damage[0])
    if path is not None:
        _require_its_model(plan, path)
    return path


def _require_its_model(plan: ResolvedRun, checkpoint: Path) -> None:
    state = TrainState.read(checkpoint)
    try:
        state.require_shape(plan.shape, checkpoint)
    except InputError as error:
        raise InputError(f"{error}; nearest: {_its_model(plan, checkpoint, state)}") from None


def _its_model(plan: ResolvedRun, checkpoint: Path, state: TrainState) -> str:
    """The model of a checkpoint, as typed: by name if that is another of ours, else by settings."""
    config = RunFolder(checkpoint.parent.parent).config
    name = config_files.read(config).model.name if config.exists() else plan.run.model.name
    if name != plan.run.model.name and files("configs").joinpath(f"model/{name}.yaml").is_file():
        return override("model", name)
    differ = _differences(to_json(state.shape()), to_json(plan.shape), "model")
    return listed(list(differ), apart=" ")


def _differences(there: dict[str, Any], here: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in there.items():
        if isinstance(value, dict):
            yield from _differences(value, here[key], f"{prefix}.{key}")
        elif value != here[key]:
            yield override(f"{prefix}.{key}", value)


def state_of(checkpoint: Path, plan: ResolvedRun) -> TrainState:
    """Where a run stands that goes on from a checkpoint, or begins with one of Hugging Face's."""
    if manifest.is_huggingface(checkpoint):
        return TrainState.before_training(plan.shape, plan.run.train.seed)
    return TrainState.read(checkpoint)


def require_same_run(plan: ResolvedRun, state: TrainState, checkpoint: Path) -> None:
    """Requires the seed and mixture weights the run began with: they determine its data order."""
    if state.step > 0 and state.seed != plan.run.train.seed:
        raise InputError(
            f"train.seed={plan.run.train.seed}: checkpoint={checkpoint} was trained with "
            f"train.seed={state.seed}"
        )
    _require_same_weights(plan, state, checkpoint)


def _require_same_weights(plan: ResolvedRun, state: TrainState, checkpoint: Path) -> None:
    shares = {source.name: source.share for source in sources_of(plan.run.corpus)}
    if state.step > 0 and state.shares and state.shares != shares:
        both = dict.fromkeys((*shares, *state.shares))
        names = [name for name in both if shares.get(name) != state.shares.get(name)]
        before, now = (
            listed([f"{name} {each[name]:.4g}" for name in names if name in each])
            for each in (state.shares, shares)
        )
        raise InputError(
            f"corpus.sources: their shares are {now}; checkpoint={checkpoint} was trained with "
            f"{before}, and its samples would be in another order"
        )


def last_step(run: Run) -> int:
    """The step at which this start of the run ends."""
    steps = steps_of(run)
    return steps if run.train.stop_after is None else min(steps, run.train.stop_after)


def resolved(run: Run, folder: RunFolder, checkpoint: Path | None) -> Run:
    """The run with `run_dir` and `checkpoint` filled in, as every rank reads it."""
    return replace(
        run, run_dir=str(folder.path), checkpoint=None if checkpoint is None else str(checkpoint)
    )
