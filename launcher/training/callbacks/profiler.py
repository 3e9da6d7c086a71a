"""Profiles a window of steps with torch's profiler, and on CUDA the allocator's history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from launcher.training.callbacks.callback import Callback, StepRecord


class Profiler(Callback):
    """Writes profile/rank_N.json (for chrome://tracing or Perfetto) and profile/memory_N.pickle."""

    def __init__(self, folder: Path, rank: int, start: int, steps: int, memory: bool) -> None:
        self._folder = folder
        self._rank = rank
        self._first = start
        self._last = start + steps - 1
        self._memory = memory and torch.cuda.is_available()
        self._profiler: Any = None

    def before_step(self, step: int) -> None:
        """Starts the profiler, and the allocator's history, before the window's first step."""
        if step != self._first:
            return
        self._folder.mkdir(exist_ok=True)
        if self._memory:
            torch.cuda.memory._record_memory_history()
        self._profiler = torch.profiler.profile(profile_memory=True, record_shapes=True)
        self._profiler.start()

    def after_step(self, record: StepRecord) -> None:
        """Advances the profiler; writes the files after the window's last step."""
        if self._profiler is None:
            return
        self._profiler.step()
        if record.step == self._last:
            self._finish()

    def on_rollback(self, step: int) -> None:
        """Writes the profile so far."""
        self.at_end()

    def at_end(self) -> None:
        """Writes the profile if training ends within the window."""
        if self._profiler is not None:
            self._finish()

    def _finish(self) -> None:
        self._profiler.stop()
        self._profiler.export_chrome_trace(str(self._folder / f"rank_{self._rank}.json"))
        self._profiler = None
        if self._memory:
            memory: Any = torch.cuda.memory
            memory._dump_snapshot(str(self._folder / f"memory_{self._rank}.pickle"))
            memory._record_memory_history(enabled=None)
