"""Collects Python's garbage on all ranks after the same steps.

Python collects whenever a process has made enough objects, which ranks do at different moments:
each pauses for a fifth of a second while all others wait for it.
"""

from __future__ import annotations

import gc

from launcher.training.callbacks.callback import Callback, StepRecord


class GarbageCollection(Callback):
    """Collects every `every` steps, and only then, until training ends."""

    def __init__(self, every: int) -> None:
        self._every = every
        # What the run is made of stays until its end: collections need not look at it.
        gc.collect()
        gc.freeze()
        gc.disable()

    def after_step(self, record: StepRecord) -> None:
        """Collects after every `every`-th step."""
        if record.step % self._every == 0:
            gc.collect()

    def at_end(self) -> None:
        """Leaves it to Python again."""
        gc.enable()
        gc.unfreeze()
