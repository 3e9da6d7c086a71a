"""`python -m launcher.agent RUN_DIR ARGUMENTS...`: torchrun on one node, in fewer words.

Takes torchrun's own arguments. Leaves notes for ranks that were killed and could leave none.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

from launcher.failures import Failure, leave_note, note_path
from launcher.run_folder import RunFolder


def main() -> None:
    path, *arguments = sys.argv[1:]
    sys.exit(run(RunFolder(Path(path)), arguments))


def run(folder: RunFolder, arguments: list[str]) -> int:
    """torchrun's exit status: 0, or 1 where a rank failed or a signal came."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    try:
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
