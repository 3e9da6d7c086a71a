"""metrics.jsonl: one line per step, each step once however often the run was restarted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from configs.atomic import write_atomic
from launcher.run.jsonl import read_lines
from launcher.training.callbacks.callback import Callback, StepRecord


class MetricsFile(Callback):
    """Appends to metrics.jsonl; non-finite numbers become null."""

    def __init__(self, path: Path, *, after_step: int) -> None:
        """Continues after `after_step`: drops later lines, as those steps will run again."""
        self._path = path
        keep_until(path, after_step)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def after_step(self, record: StepRecord) -> None:
        """Appends the step's record."""
        self._write(record.values())

    def after_evaluation(self, step: int, eval_loss: float) -> None:
        """Appends the loss on held-out text as a separate line."""
        self._write({"step": step, "eval_loss": eval_loss})

    def on_rollback(self, step: int) -> None:
        """Drops the lines of steps after `step`."""
        self._file.close()
        keep_until(self._path, step)
        self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def at_end(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        # JSON has no infinity.
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        self._file.write(json.dumps(finite) + "\n")


def lacks_evaluation(path: Path, step: int) -> bool:
    """Whether the run finished this step and was stopped before evaluating it."""
    rows = [row for row in read_lines(path) if row["step"] == step]
    return bool(rows) and not any("eval_loss" in row for row in rows)


def keep_until(path: Path, step: int) -> None:
    """Drops the rows of later steps, atomically."""
    if not path.exists():
        return
    rows = [row for row in read_lines(path) if row["step"] <= step]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
