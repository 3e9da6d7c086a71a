"""`python -m launcher.agent RUN_DIR ARGUMENTS...`: torchrun on one node, in fewer words.

Takes torchrun's own arguments. Leaves notes for ranks that were killed and could leave none.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.failures import Failure, leave_note, note_path
from launcher.run_folder import RunFolder


def main() -> None:
    path, *arguments = sys.argv[1:]
    # Until torchrun hears signals itself, which is after seconds of imports.
    early: list[int] = []
    for number in _handled(arguments):
        signal.signal(number, lambda came, _frame: early.append(came))
    sys.exit(run(RunFolder(Path(path)), arguments, early))


def _handled(arguments: list[str]) -> set[signal.Signals]:
    """The signals that torchrun is to pass on, but for Ctrl-C."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--signals-to-handle", default="SIGTERM")
    names = parser.parse_known_args(arguments)[0].signals_to_handle.split(",")
    return {signal.Signals[name] for name in names} - {signal.SIGINT}


def run(folder: RunFolder, arguments: list[str], early: list[int]) -> int:
    """torchrun's exit status: 0, or 1 where a rank failed or a signal came.

    Args:
        early: signals that have come already.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    if early:
        _say(f"told to end by {signal.Signals(early[0]).name} before its ranks began")
        return 1
    try:
        with _held_back(_handled(arguments)):
            torchrun(parse_args(arguments))  # type: ignore[no-untyped-call]
    except SignalException as error:
        _say(f"told to end by {signal.Signals(error.sigval).name}")
        return 1
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            _note_killed(folder.logs, rank, failure.exitcode, failure.timestamp)
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        _say(", ".join(f"rank {rank} ended with {code}" for rank, code in sorted(codes.items())))
        return 1
    return 0


@contextmanager
def _held_back(numbers: set[signal.Signals]) -> Iterator[None]:
    """What is started meanwhile gets these signals once it is ready for them (`stopping.Signals`).

    Ranks take seconds to import what they need, and one that came then would end them. The mask is
    inherited; the agent itself hears them by another thread, which has none.
    """
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        over.set()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _note_killed(logs: Path, rank: int, exit_code: int, when: int) -> None:
    # SIGTERM is the agent's own, sent to the ranks that were left.
    if exit_code >= 0 or exit_code == -signal.SIGTERM or note_path(logs, rank).exists():
        return
    name = signal.Signals(-exit_code).name
    hint = " (out of memory?)" if -exit_code == signal.SIGKILL else ""
    failure = Failure(
        rank=rank,
        message=f"was ended by {name}{hint}",
        of_input=False,
        lost_peer=False,
        time=float(when),
        traceback="",
    )
    leave_note(logs, failure)


def _say(words: str) -> None:
    print(f"phalanx: {socket.gethostname()}: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
