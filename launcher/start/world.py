"""The process group of all ranks: joins it, and records a rank's failure within it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from configs.schema import Run
from launcher.failure.heartbeat import current_status
from launcher.failure.record import Failure, leave_note
from launcher.failure.watchdog import Watchdog
from parallel.runtime.environment import rank_environment

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
def joined_world(run: Run, watchdog: Watchdog) -> Iterator[Device]:
    """Opens this rank's device and the default process group, from RANK and related variables.

    The watchdog watches from here on; the caller sets its next limit.
    """
    warnings.filterwarnings("ignore", module=r"megatron\..*")
    warnings.filterwarnings("ignore", module=r"torch\..*")
    watchdog.watch("importing torch", run.launch.start_timeout_s)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Before torch is imported: CUDA, NCCL and gloo read them once.
    for name, value in rank_environment(run, ranks_here).items():
        os.environ.setdefault(name, value)
    import torch

    from launcher.failure.flight_recorder import turn_on
    from parallel.runtime.device import join_world, open_device

    turn_on()
    watchdog.note("opening its device")
    device = open_device(run.device, local_rank, ranks_here, run.cuda)
    watchdog.note("joining the others")
    join_world(device, run.launch)
    try:
        yield device
    finally:
        # After a failure the other ranks may be gone, and destroying a group collectively hangs.
        if sys.exc_info()[0] is None:
            torch.distributed.destroy_process_group()


def leave_at_once(status: int) -> NoReturn:
    """Ends this process without Python's teardown, which would destroy live communicators.

    NCCL's and gloo's destructors may wait for ranks that are gone.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)
