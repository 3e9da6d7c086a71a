"""TensorBoard event files; a resumed run continues from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from launcher.training.callbacks.callback import Callback, StepRecord

_SHOWN = ("loss", "grad_norm", "learning_rate", "tokens_per_s", "tflops", "memory_gib")


class TensorBoard(Callback):
    """Writes events into `folder`; those of steps after `after_step` are purged."""

    def __init__(self, folder: Path, *, after_step: int) -> None:
        self._folder = folder
        self._writer = self._open(after_step)

    def _open(self, after_step: int) -> SummaryWriter:
        # Steps after the checkpoint will be logged again.
        return SummaryWriter(str(self._folder), purge_step=after_step + 1)

    def after_step(self, record: StepRecord) -> None:
        """Adds the step's scalars under train/, and those of routers under experts/."""
        for name in _SHOWN:
            self._writer.add_scalar(f"train/{name}", getattr(record, name), record.step)
        for name, value in record.routing.means().items() if record.routing else ():
            self._writer.add_scalar(f"experts/{name}", value, record.step)

    def after_evaluation(self, step: int, eval_loss: float) -> None:
        """Adds held_out/loss."""
        self._writer.add_scalar("held_out/loss", eval_loss, step)

    def on_rollback(self, step: int) -> None:
        """Purges the events of steps after `step`."""
        self._writer.close()
        self._writer = self._open(step)

    def at_end(self) -> None:
        """Closes the event file."""
        self._writer.close()
