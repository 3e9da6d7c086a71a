"""Wraps torchrun on one node: `python -m launcher.start.torchrun_node RUN_DIR ARGUMENTS`.

Takes torchrun's own arguments. Writes failure notes for ranks that were killed before they could.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.load import read
from configs.words import listed
from launcher.failure.heartbeat import kept_on_this_node
from launcher.failure.record import note_for_others, oom_kills, read_notes
from launcher.failure.report import report_of
from launcher.run.run_dir import RunFolder
from parallel.layout import Layout

_OTHERS_WRITE_S = 2.0  # time for other nodes' ranks to write their notes


def main() -> None:
    """Runs torchrun with the arguments after RUN_DIR and exits with its status."""
    path, *arguments = sys.argv[1:]
    # Until torchrun installs its own handlers, after seconds of imports.
    early: list[int] = []
    for number in _handled(arguments) - {signal.SIGINT}:
        signal.signal(number, lambda came, _frame: early.append(came))
    sys.exit(run(RunFolder(Path(path)), arguments, early))


def _handled(arguments: list[str]) -> set[signal.Signals]:
    """The signals that torchrun forwards."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--signals-to-handle", default="SIGTERM")
    names = parser.parse_known_args(arguments)[0].signals_to_handle.split(",")
    return {signal.Signals[name] for name in names}


def run(folder: RunFolder, arguments: list[str], early: list[int]) -> int:
    """torchrun's exit status: 0, or 1 if a rank failed or a signal arrived.

    Args:
        early: signals that have already arrived.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    from launcher.start.elastic_agent import defer_signals_until_started, wait_for_others

    handled = _handled(arguments)
    oom = oom_kills()
    with kept_on_this_node() as statuses:
        try:
            with _held_back(handled - {signal.SIGINT}):
                defer_signals_until_started(handled)
                requested = parse_args(arguments)  # type: ignore[no-untyped-call]
                wait_for_others(requested.shutdown_timeout)
                if early:
                    raise SignalException("early", signal.Signals(early[0]))
                torchrun(requested)  # type: ignore[no-untyped-call]
        except SignalException as error:
            if read_notes(folder.logs):  # another node's ranks failed and took these down
                note_for_others(folder.logs, {}, statuses, oom)
            stopped = folder.stopped_by()
            saved = "" if stopped is None else f"; saved after step {stopped[0]}"
            _say(f"told to end by {signal.Signals(error.sigval).name}{saved}")
            return 1
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            note_for_others(folder.logs, codes, statuses, oom)
            ended = listed(
                [f"rank {rank} ended with {code}" for rank, code in sorted(codes.items())]
            )
            _say(ended)
            _report(folder, arguments)
            return 1
    return 0


def _report(folder: RunFolder, arguments: list[str]) -> None:
    """Without SLURM nothing runs after the agents, so the first node's agent writes the report."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--node-rank", type=int, default=0)
    if "SLURM_JOB_ID" in os.environ or parser.parse_known_args(arguments)[0].node_rank:
        return
    time.sleep(_OTHERS_WRITE_S)
    layout = Layout.resolve(read(folder.config).layout, None)
    if (reported := report_of(folder, layout)) is not None:
        print(f"phalanx: {reported[1]}", file=sys.stderr, flush=True)


@contextmanager
def _held_back(numbers: set[signal.Signals]) -> Iterator[None]:
    """Defers these signals for processes started inside, until they can handle them (`Signals`).

    Ranks take seconds to import, and a signal that arrives before then would kill them. They
    inherit the signal mask; the agent itself receives signals in another thread, which has none.
    """
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        over.set()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(words: str) -> None:
    print(f"phalanx: {socket.gethostname()}: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
