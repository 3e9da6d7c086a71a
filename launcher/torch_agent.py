"""torch's elastic agent, but for signals that come while it starts its ranks.

torch 2.13 forgets the ranks that it is starting when one comes meanwhile, and leaves them running.
Here it hears of it when they have begun, and then passes it on to them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

from torch.distributed.elastic.agent.server.api import WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import api as processes
from torch.distributed.launcher import api as torchrun


def hear_once_begun(numbers: Collection[signal.Signals]) -> None:
    """For the rest of this process. `numbers`: of the signals that torchrun is to pass on."""
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
