"""Called by the batch script: `python -m launcher.start.slurm_job begin|end RUN_DIR [STATUS]`.

Imports no torch. `begin` prints the number of nodes to start on. Its exit status: 0 start, 3
nothing to do, 2 the nodes do not suffice. That of `end`: 0 the run is done, 75 it is to be
requeued, 1 it is not, 2 it cannot start before its settings are fixed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from configs.errors import InputError, RunError
from configs.load import read
from configs.schema import Chain, Run
from configs.words import listed
from launcher.failure.record import FailureKind, clear_notes
from launcher.failure.report import Report, nodes_to_leave_out, report_of
from launcher.run.jsonl import append_line, read_lines
from launcher.run.ownership import release_of_job, take_for_job
from launcher.run.resolve import device_of
from launcher.run.run_dir import RunFolder
from parallel.layout import Layout
from slurm import commands
from slurm.environment import expanded
from slurm.environment import nodes as nodes_of
from slurm.restart import Action, End, Start, verdict
from slurm.script import AGAIN, NOTHING

WRONG = 2


def begin(folder: RunFolder, environment: Mapping[str, str] = os.environ) -> int:
    """Takes the run directory and records a start, unless the run is done, stopped or owned.

    Prints the number of nodes to use.
    """
    for path, why in (
        (folder.done, "the run is done"),
        (folder.stop_file, "the run directory has a STOP file"),
    ):
        if path.exists():
            _say(f"nothing to do: {why}")
            return NOTHING
    try:
        take_for_job(folder.path, folder.resolved().launch.lease_s, environment)
    except InputError as error:
        _say(f"does not start: {error}")
        return WRONG
    clear_notes(folder.logs)
    folder.forget_end()
    start = Start(
        job=environment.get("SLURM_JOB_ID", ""),
        restart=int(environment.get("SLURM_RESTART_COUNT", "0")),
        time=time.time(),
        saved=folder.saved_step(),
        nodes=environment.get("SLURM_JOB_NODELIST", ""),
    )
    append_line(folder.starts, asdict(start))
    _say(f"start {start.restart} of job {start.job} on {start.nodes}")
    try:
        print(_nodes(folder, _given(environment)), flush=True)
    except InputError as error:
        release_of_job(folder.path, environment)
        _say(f"does not start: {error}")
        return WRONG
    return 0


def _given(environment: Mapping[str, str]) -> int:
    given = nodes_of(environment)
    if given is None:
        raise InputError("SLURM_JOB_NUM_NODES: SLURM does not say how many nodes the job has")
    return given


def _nodes(folder: RunFolder, given: int) -> int:
    """How many of the job's nodes are used. Raises InputError if they do not suffice."""
    run = folder.requested()
    requested = run.cluster.nodes
    if not run.launch.elastic:
        if given != requested:
            raise InputError(
                f"the job has {given} nodes, cluster.nodes={requested}; nearest: "
                "launch.elastic=true"
            )
        return given
    from launcher.run.elastic import nodes_and_layout

    nodes, layout = nodes_and_layout(run, given, device_of(run))
    if given != requested:
        idle = f", {given - nodes} of them idle" if nodes < given else ""
        nodes_said = "1 node" if given == 1 else f"{given} nodes"
        _say(f"{nodes_said} where {requested} were asked for{idle}: layout {layout}")
    return nodes


def end(folder: RunFolder, status: int, environment: Mapping[str, str] = os.environ) -> int:
    """Reports what failed, whether the run is requeued, and why."""
    run = read(folder.config)
    report = _report(folder, run, environment)
    launch = run.launch
    judged = verdict(
        read_starts(folder),
        _end(folder, status, report),
        launch.max_restarts,
        launch.max_idle_starts,
    )
    doubled = judged.action is Action.done and judged.reason == "the run is done"
    _say("done" if doubled else f"{_WORDS[judged.action]}: {judged.reason}")
    if judged.action is Action.again:
        _leave_out(folder, run)
    release_of_job(folder.path, environment)
    if judged.action is Action.stop and folder.stopped_by() and folder.stop_file.exists():
        return 0  # the user requested it: SLURM need not count it as a failure
    if judged.action is Action.stop and report is not None and report.kind is FailureKind.settings:
        return WRONG
    return {Action.done: 0, Action.again: AGAIN, Action.stop: 1}[judged.action]


_WORDS = {Action.done: "done", Action.again: "restarts", Action.stop: "does not restart"}


def _say(words: str) -> None:
    print(f"phalanx: {words}", file=sys.stderr, flush=True)


def read_starts(folder: RunFolder) -> list[Start]:
    """All starts of the run by jobs, oldest first."""
    return [Start(**line) for line in read_lines(folder.starts)]


def _report(folder: RunFolder, run: Run, environment: Mapping[str, str]) -> Report | None:
    """None if the start ended regularly."""
    if folder.done.exists() or folder.stopped_by() is not None:
        return None
    hosts = expanded(environment.get("SLURM_JOB_NODELIST", ""))
    reported = report_of(folder, Layout.resolve(run.layout, None), nodes=hosts)
    if reported is None:
        return None
    report, text = reported
    _say(text)
    return report


def _end(folder: RunFolder, status: int, report: Report | None) -> End:
    stopped = folder.stopped_by()
    return End(
        status=status,
        saved=folder.saved_step(),
        done=folder.done.exists(),
        stopped=None if stopped is None else f"stopped by {stopped[1]} after step {stopped[0]}",
        failure=None if report is None else report.line,
        comes_again=report is not None and _comes_again(folder, report),
        asked_to_end=folder.stop_file.exists(),
    )


def _comes_again(folder: RunFolder, report: Report) -> bool:
    """Whether a restart would fail again. Memory that ran out after progress may be a leak."""
    starts = read_starts(folder)
    went_on = bool(starts) and folder.saved_step() > starts[-1].saved
    return not report.consequence.again and not (report.kind is FailureKind.memory and went_on)


def _leave_out(folder: RunFolder, run: Run) -> None:
    """Excludes faulty nodes from the next start, if enough others remain."""
    bad = nodes_to_leave_out(folder)
    if not bad:
        return
    try:
        usable = commands.usable_nodes(run.launch.partition)
    except (InputError, RunError) as error:
        _say(f"{listed(bad)} not left out: {error}")
        return
    needed = run.launch.min_nodes if run.launch.elastic else run.cluster.nodes
    others = len(set(usable) - set(bad))
    if others < needed:
        _say(f"{listed(bad)} not left out: {others} other nodes are there, {needed} needed")
        folder.left_out.unlink(missing_ok=True)
        return
    requested = [] if run.launch.exclude is None else [run.launch.exclude]
    without = ",".join([*requested, *bad])
    folder.left_out.write_text(without + "\n", encoding="utf-8")
    # The script of a requeued job excludes the nodes itself, once the job is pending.
    with suppress(InputError):  # there is no scontrol here, as in a container
        for job in set(folder.read_jobs()) if run.launch.chain is not Chain.none else ():
            commands.leave_out(job, without)
    _say(f"left out from now on: {listed(bad)}")


def main() -> None:
    """Runs `begin` or `end` and exits with its status; 1 if the disk fails."""
    command, path, *status = sys.argv[1:]
    folder = RunFolder(Path(path))
    try:
        sys.exit(begin(folder) if command == "begin" else end(folder, int(status[0])))
    except OSError as error:
        _say(f"{error.filename or folder.path}: {error.strerror}")
        sys.exit(1)


if __name__ == "__main__":
    main()
