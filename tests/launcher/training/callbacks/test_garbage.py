"""Python's garbage is collected after the same steps on every rank, and at no other time."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

from launcher.training.callbacks.garbage import GarbageCollection


def test_only_after_every_so_many_steps() -> None:
    collected: list[int] = []
    step = 0

    def note(phase: str, _about: Any) -> None:
        if phase == "start":
            collected.append(step)

    callback = GarbageCollection(3)
    gc.callbacks.append(note)
    try:
        for step in range(1, 8):
            [[] for _ in range(10_000)]  # which Python would collect after
            callback.after_step(SimpleNamespace(step=step))  # type: ignore[arg-type]
        assert collected == [3, 6]
    finally:
        gc.callbacks.remove(note)
        callback.at_end()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
