"""The run directory: what belongs to one run, and whether it is new or goes on.

config.yaml      the resolved configuration that every rank reads
overrides.yaml   what was typed; a resume composes from it
layout.txt       which rank holds what
metrics.jsonl    a line a step
deepspeed.json   what DeepSpeed was given, under engine=deepspeed
corpus.json      where the token files are
checkpoints/  tensorboard/  logs/rank_N.log  loss.png
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs import load as config_files
from configs.errors import InputError
from configs.schema import Run
from corpus.sources import sources_of
from launcher.compose import store_overrides
from launcher.plan_ranks import Plan
from parallel import checkpoint_files
from parallel.batches import steps_of
from parallel.checkpoint_files import TrainState


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def corpus(self) -> Path:
        return self.path / "corpus.json"

    def has_checkpoint(self) -> bool:
        return bool(checkpoint_files.whole_checkpoints(self.checkpoints))

    def write(self, run: Run, overrides: list[str], layout_text: str) -> None:
        """Raises InputError where the directory cannot be written."""
        try:
            for folder in (self.path, self.checkpoints, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            config_files.save(run, self.config)
            store_overrides(overrides, self.path)
            (self.path / "layout.txt").write_text(layout_text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"run_dir={self.path}: {error.strerror}") from None

    def write_corpus(self, folder: Path) -> None:
        self.corpus.write_text(json.dumps({"folder": str(folder)}) + "\n", encoding="utf-8")

    def write_deepspeed(self, config: dict[str, Any]) -> None:
        text = json.dumps(config, indent=2)
        (self.path / "deepspeed.json").write_text(text + "\n", encoding="utf-8")

    def read_corpus(self) -> Path:
        return Path(json.loads(self.corpus.read_text(encoding="utf-8"))["folder"])


def choose_folder(plan: Plan) -> RunFolder:
    """`run_dir`, or a new name. Raises InputError where the directory is something else's."""
    asked = plan.run.run_dir
    if asked is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = f"{plan.run.model.name}-{plan.layout}-{stamp}"
        path = Path("runs") / name
        while path.exists():
            path = path.with_name(f"{name}-{os.getpid()}")
        return RunFolder(path.resolve())
    folder = RunFolder(Path(asked).expanduser().resolve())
    if folder.path.is_file():
        raise InputError(f"run_dir={asked}: is a file")
    if folder.path.is_dir() and any(folder.path.iterdir()) and not folder.config.exists():
        raise InputError(
            f"run_dir={asked}: is not empty and holds no run; give another or a new one"
        )
    return folder


def checkpoint_to_load(plan: Plan, folder: RunFolder) -> Path | None:
    """The checkpoint to go on from: the run's own newest, else `checkpoint`, else None.

    `checkpoint` inside the run's own directory takes the run back to it.
    Raises InputError where it is not whole or of another model.
    """
    path: Path | None = None
    if plan.run.checkpoint is not None:
        asked = checkpoint_files.find(Path(plan.run.checkpoint).expanduser())
        if folder.checkpoints in asked.parents or not folder.has_checkpoint():
            path = asked
    if path is None and folder.has_checkpoint():
        path = checkpoint_files.find(folder.checkpoints)
    if path is not None:
        TrainState.read(path).require_shape(plan.shape, path)
        checkpoint_files.require_whole(path)
    return path


def require_same_run(plan: Plan, state: TrainState, checkpoint: Path) -> None:
    """A run goes on with the seed and weights it began with: they order its data."""
    if state.step > 0 and state.seed != plan.run.train.seed:
        raise InputError(
            f"train.seed={plan.run.train.seed}: checkpoint={checkpoint} was trained with "
            f"train.seed={state.seed}"
        )
    _require_same_weights(plan, state, checkpoint)


def _require_same_weights(plan: Plan, state: TrainState, checkpoint: Path) -> None:
    shares = {source.name: source.share for source in sources_of(plan.run.corpus)}
    if state.step > 0 and state.shares and state.shares != shares:
        before, now = (
            ", ".join(f"{name} {share:.4g}" for name, share in each.items())
            for each in (state.shares, shares)
        )
        raise InputError(
            f"corpus.sources: their shares are {now}; checkpoint={checkpoint} was trained with "
            f"{before}, and its samples would be in another order"
        )


def last_step(run: Run) -> int:
    """The step this start of the run ends at."""
    steps = steps_of(run)
    return steps if run.train.stop_after is None else min(steps, run.train.stop_after)


def resolved(run: Run, folder: RunFolder, checkpoint: Path | None) -> Run:
    return replace(
        run, run_dir=str(folder.path), checkpoint=None if checkpoint is None else str(checkpoint)
    )
