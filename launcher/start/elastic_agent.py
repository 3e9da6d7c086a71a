"""torch's elastic agent, but for two things that torch 2.13 has no setting for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

from torch.distributed.elastic.agent.server.api import WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import api as processes
from torch.distributed.launcher import api as torchrun

_OTHERS_END_S = 30  # torch's own


def wait_for_others(grace_s: int) -> None:
    """Ranks that a failed one leaves behind are killed after launch.grace_s, where torch's is more.

    One that hangs ends in no other way. Holds for the rest of this process.
    """
    processes.PContext.close.__defaults__ = (None, min(grace_s, _OTHERS_END_S))


def defer_signals_until_started(numbers: Collection[signal.Signals]) -> None:
    """Ranks that are being started get a signal that comes meanwhile once they have begun.

    torch would forget them, and leave them running. `numbers`: of the signals that torchrun is to
    pass on. Holds for the rest of this process.
    """
    raising = processes._terminate_process_handler
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    def handle_all_by(handler: Callable[[int, FrameType | None], None]) -> None:
        for number in numbers:
            signal.signal(number, handler)

    class Agent(LocalElasticAgent):
        def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
            handle_all_by(note)
            started = super()._start_workers(worker_group)
            handle_all_by(raising)
            if came:
                raising(came[0], None)
            return started

    processes._terminate_process_handler = note  # type: ignore[assignment]  # a start installs it
    torchrun.LocalElasticAgent = Agent  # type: ignore[attr-defined]
    handle_all_by(raising)  # while it waits for other nodes
