"""Weights & Biases, if installed and enabled. One run directory is one W&B run."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from pathlib import Path

from configs.schema import Run
from launcher.training.callbacks.callback import Callback, StepRecord


class WeightsAndBiases(Callback):
    """Logs to the W&B run of this run directory, which every restart resumes."""

    def __init__(self, run: Run, folder: Path) -> None:
        import wandb

        self._run = wandb.init(
            project=run.log.wandb_project,
            name=folder.name,
            id=run_id(folder),
            resume="allow",
            dir=str(folder),
            config=asdict(run),
        )

    def after_step(self, record: StepRecord) -> None:
        """Logs the full record."""
        self._run.log(record.values(), step=record.step)

    def after_evaluation(self, step: int, eval_loss: float) -> None:
        """Logs eval_loss."""
        self._run.log({"eval_loss": eval_loss}, step=step)

    def at_end(self) -> None:
        """Finishes the W&B run."""
        self._run.finish()


def run_id(folder: Path) -> str:
    """The run's id, created once and kept across restarts."""
    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(uuid.uuid4().hex + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
