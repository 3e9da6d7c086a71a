"""One rank of a run: `python -m launcher.worker COMMAND RUN_DIR`, started by the elastic agent.

Reads the resolved configuration, opens its device, joins the others and does its part. Its output
goes to logs/rank_N.log; only rank 0's progress reaches the terminal.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from configs.errors import InputError
from configs.load import read
from configs.schema import Run
from corpus.prepare.workers import die_with_parent
from launcher.failure.heartbeat import owner
from launcher.failure.watchdog import Watchdog
from launcher.run.run_dir import RunFolder
from launcher.start.world import joined_world, leave_at_once, noting_failure


def main() -> None:
    """Does this rank's part; exits with 2 after an InputError, 1 after any other failure."""
    command, path = sys.argv[1:]
    folder = RunFolder(Path(path))
    rank = int(os.environ["RANK"])
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent(owner())  # a rank must not outlive its launcher
    terminal = _log_to(folder.logs / f"rank_{rank}.log")
    run = read(folder.config)
    try:
        with noting_failure(folder.logs, rank):
            _do(command, run, folder, terminal)
    except BaseException as error:  # some of torch's errors are not Exceptions
        traceback.print_exc()
        leave_at_once(2 if isinstance(error, InputError) else 1)


def _do(command: str, run: Run, folder: RunFolder, terminal: IO[str]) -> None:
    """A rank's part of a command."""
    watchdog = Watchdog(folder.logs, int(os.environ["RANK"]), run.launch.grace_s)
    if command == "train":
        from launcher.training.signals import Signals

        signals = Signals(run.launch.signal)
        with joined_world(run, watchdog) as device:
            from launcher.training.trainer import train_session

            train_session(run, folder, device, terminal, signals, watchdog)
        return
    with joined_world(run, watchdog) as device:
        watchdog.stop()  # a prompt may be awaited for any time
        if command == "evaluate":
            from launcher.inference.evaluate import evaluate_session

            evaluate_session(run, folder, device, terminal)
        else:
            from launcher.inference.generate import generate_session

            generate_session(run, device, terminal)


class _Terminal(TextIOWrapper):
    """A terminal whose loss, as of a dropped connection, does not end the run."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _log_to(path: Path) -> IO[str]:
    """Redirects this process's output to a file; returns the terminal it had."""
    terminal = _Terminal(os.fdopen(os.dup(1), "wb"), encoding="utf-8", line_buffering=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    return terminal


if __name__ == "__main__":
    main()
