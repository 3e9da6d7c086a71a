"""Patches for two behaviors of torch's elastic agent that torch 2.13 has no setting for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

from torch.distributed.elastic.agent.server.api import WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import api as processes
from torch.distributed.launcher import api as torchrun

_OTHERS_END_S = 30  # torch's default


def wait_for_others(grace_s: int) -> None:
    """Makes the agent kill the ranks left after a failure within launch.grace_s.

    A rank that hangs ends no other way. Applies only where torch's own limit is longer, and for the
    rest of this process.
    """
    processes.PContext.close.__defaults__ = (None, min(grace_s, _OTHERS_END_S))


def defer_signals_until_started(numbers: Collection[signal.Signals]) -> None:
    """Delivers signals that arrive while ranks are being started once the ranks are running.

    torch would lose track of these ranks and leave them running. `numbers`: the signals that
    torchrun forwards. Applies for the rest of this process.
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
