"""`python -m launcher.job begin|end RUN_DIR [STATUS]`: what a batch script asks before and after.

Imports no torch. Exit status of `begin`: 0 go on, 3 nothing to do. Of `end`: 0 the run is done, 75
it is to begin again, 1 it is not, 2 not before its settings are mended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from configs.errors import InputError
from configs.load import read
from launcher.failures import clear_notes, first_cause, read_notes
from launcher.run_folder import RunFolder
from slurm.restart import Action, End, Start, verdict
from slurm.script import AGAIN, NOTHING


def begin(folder: RunFolder) -> int:
    """Notes a start, unless there is nothing to do."""
    for path, why in (
        (folder.done, "the run is done"),
        (folder.stop_file, "the run directory has a STOP file"),
    ):
        if path.exists():
            print(f"phalanx: nothing to do: {why}", flush=True)
            return NOTHING
    clear_notes(folder.logs)
    folder.forget_end()
    start = Start(
        job=os.environ.get("SLURM_JOB_ID", ""),
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        time=time.time(),
        saved=folder.saved_step(),
        nodes=os.environ.get("SLURM_JOB_NODELIST", ""),
    )
    with folder.starts.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(start)) + "\n")
    print(f"phalanx: start {start.restart} of job {start.job} on {start.nodes}", flush=True)
    return 0


def end(folder: RunFolder, status: int) -> int:
    """Says whether the run begins again, and why."""
    launch = read(folder.config).launch
    judged = verdict(read_starts(folder), _end(folder, status), launch.max_restarts)
    print(f"phalanx: {_WORDS[judged.action]}: {judged.reason}", flush=True)
    if judged.action is Action.stop and isinstance(_cause(folder), InputError):
        return 2
    return {Action.done: 0, Action.again: AGAIN, Action.stop: 1}[judged.action]


_WORDS = {Action.done: "done", Action.again: "begins again", Action.stop: "does not begin again"}


def read_starts(folder: RunFolder) -> list[Start]:
    if not folder.starts.exists():
        return []
    lines = folder.starts.read_text(encoding="utf-8").splitlines()
    return [Start(**json.loads(line)) for line in lines]


def _end(folder: RunFolder, status: int) -> End:
    stopped, cause = folder.stopped_by(), _cause(folder)
    return End(
        status=status,
        saved=folder.saved_step(),
        done=folder.done.exists(),
        stopped=None if stopped is None else f"stopped by {stopped[1]} after step {stopped[0]}",
        failure=None if cause is None else str(cause),
        of_input=isinstance(cause, InputError),
        asked_to_end=folder.stop_file.exists(),
    )


def _cause(folder: RunFolder) -> Exception | None:
    notes = read_notes(folder.logs)
    return first_cause(notes, {}) if notes else None


def main() -> None:
    command, path, *status = sys.argv[1:]
    folder = RunFolder(Path(path))
    sys.exit(begin(folder) if command == "begin" else end(folder, int(status[0])))


if __name__ == "__main__":
    main()
