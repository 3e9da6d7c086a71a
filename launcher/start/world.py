"""The process group of all ranks: joins it, and records a rank's failure within it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from configs.schema import Run
from launcher.failure.heartbeat import current_status
from launcher.failure.record import Failure, leave_note

if TYPE_CHECKING:
    from parallel.runtime.device import Device


@contextmanager
def noting_failure(logs: Path, rank: int) -> Iterator[None]:
    """Writes a failure note if the block raises."""
    current_status.open(rank)
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # no run directory yet, or a full disk
            leave_note(logs, Failure.of(rank, error, _waits_in(logs, rank, error)))
        raise


def _waits_in(logs: Path, rank: int, error: BaseException) -> str:
    if "torch" not in sys.modules:
        return ""
    from launcher.failure.flight_recorder import waits_in

    return waits_in(logs, rank, error)


@contextmanager
def joined_world(run: Run) -> Iterator[Device]:
    """Opens this rank's device and the default process group, from RANK and related variables."""
    warnings.filterwarnings("ignore", module=r"megatron\..*")
    warnings.filterwarnings("ignore", module=r"torch\..*")
    current_status.note("joining the others")
    import torch

    from launcher.failure.flight_recorder import turn_on
    from parallel.runtime.device import join_world, open_device

    turn_on()

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    device = open_device(run.device, local_rank, ranks_here)
    join_world(device, run.launch.timeout_s)
    try:
        yield device
    finally:
        # After a failure the other ranks may be gone, and destroying a group collectively hangs.
        if sys.exc_info()[0] is None:
            torch.distributed.destroy_process_group()
