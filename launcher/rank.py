"""One rank of a run: `python -m launcher.rank COMMAND RUN_DIR`, started by the elastic agent.

Reads the one resolved configuration, opens its device, joins the others and does its part. What it
prints goes to logs/rank_N.log; only rank 0's progress reaches the terminal.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING

from configs.errors import InputError
from configs.load import read
from configs.schema import Run
from corpus.workers import die_with_parent
from launcher.failures import Failure, leave_note
from launcher.run_folder import RunFolder
from launcher.whereabouts import here, owner

if TYPE_CHECKING:
    from parallel.devices import Device


def main() -> None:
    command, path = sys.argv[1:]
    folder = RunFolder(Path(path))
    rank = int(os.environ["RANK"])
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent(owner())  # a rank whose launcher is gone must not live on
    terminal = _log_to(folder.logs / f"rank_{rank}.log")
    run = read(folder.config)
    try:
        with noting_failure(folder.logs, rank):
            _do(command, run, folder, terminal)
    except BaseException as error:  # torch has failures that are no Exception
        traceback.print_exc()
        sys.exit(2 if isinstance(error, InputError) else 1)


def _do(command: str, run: Run, folder: RunFolder, terminal: IO[str]) -> None:
    """A rank's part of a command."""
    if command == "train":
        from launcher.stopping import Signals

        signals = Signals(run.launch.signal)
        with joined_world(run) as device:
            from launcher.session import train_session

            train_session(run, folder, device, terminal, signals)
        return
    with joined_world(run) as device:
        if command == "evaluate":
            from launcher.evaluating import evaluate_session

            evaluate_session(run, folder, device, terminal)
        else:
            from launcher.sampling import generate_session

            generate_session(run, device, terminal)


@contextmanager
def noting_failure(logs: Path, rank: int) -> Iterator[None]:
    """Leaves a note of what the rank fails with."""
    here.open(rank)
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # no run yet, or no room
            leave_note(logs, Failure.of(rank, error, _waits_in(logs, rank, error)))
        raise


def _waits_in(logs: Path, rank: int, error: BaseException) -> str:
    if "torch" not in sys.modules:
        return ""
    from launcher.flight_recorder import waits_in

    return waits_in(logs, rank, error)


@contextmanager
def joined_world(run: Run) -> Iterator[Device]:
    """Opens this rank's device and the default process group, as RANK and its kin say."""
    warnings.filterwarnings("ignore", module=r"megatron\..*")
    warnings.filterwarnings("ignore", module=r"torch\..*")
    here.note("joining the others")
    import torch

    from launcher.flight_recorder import turn_on
    from parallel.devices import join_world, open_device

    turn_on()

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    device = open_device(run.device, local_rank, ranks_here)
    join_world(device, run.launch.timeout_s)
    try:
        yield device
    finally:
        # After a failure the others may be gone, and taking a group down together would hang.
        if sys.exc_info()[0] is None:
            torch.distributed.destroy_process_group()


class _Terminal(TextIOWrapper):
    """A terminal that is gone, as of a lost connection, takes no run along."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _log_to(path: Path) -> IO[str]:
    """Sends what this process prints to a file; returns the terminal it had."""
    terminal = _Terminal(os.fdopen(os.dup(1), "wb"), encoding="utf-8", line_buffering=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    return terminal


if __name__ == "__main__":
    main()
