"""launch=local: runs the ranks on this machine under torch's elastic agent."""

from __future__ import annotations

import logging
import os
import socket
import sys

from rich.console import Console

from configs.errors import STOPPED, InputError, RunError
from configs.override import override, shell_command
from configs.schema import LaunchConfig as LaunchSettings
from configs.schema import LaunchName
from configs.words import listed
from launcher.console.run_tables import shown
from launcher.failure.heartbeat import kept_on_this_node
from launcher.failure.record import clear_notes, note_for_others, oom_kills
from launcher.failure.report import report_of
from launcher.run.resolve import ResolvedRun
from launcher.run.run_dir import RunFolder
from launcher.start.launcher import counted_ranks
from parallel.hardware import threads_of_a_rank
from parallel.layout import Layout
from slurm.agent import handled


class LocalLauncher:
    """launch=local: runs the ranks on this machine and waits for them."""

    waits = True

    def validate(self, plan: ResolvedRun, _folder: RunFolder) -> None:
        """Raises InputError for a port that is in use."""
        if plan.run.launch.port is not None:
            _require_free(plan.run.launch.port)

    def describe(self, plan: ResolvedRun, _folder: RunFolder) -> list[str]:
        """One line."""
        return [f"{counted_ranks(plan)} on this machine"]

    def start(self, plan: ResolvedRun, folder: RunFolder, console: Console) -> None:
        """Trains to the end; exits with status 75 if it was stopped and has saved."""
        console.print("starting its ranks, which load torch first")
        try:
            run_ranks("train", folder, plan.layout, plan.run.launch)
        except KeyboardInterrupt:
            if folder.stopped_by() is None:
                console.print(_after_interrupt(folder))
                raise
        console.print(outcome(folder))
        if folder.stopped_by() is not None:
            sys.exit(STOPPED)

    def status(self, _folder: RunFolder) -> list[str]:
        """Nothing: the owner of the run directory is printed anyway."""
        return []

    def cancel(self, _folder: RunFolder) -> str | None:
        """Nothing: whoever started the ranks ends them, or a STOP file does."""
        return None


def require_local(plan: ResolvedRun, command: str) -> None:
    """Raises InputError if a command that starts its own ranks was given another launcher."""
    name = plan.run.launch.name
    if name is not LaunchName.local:
        raise InputError(f"launch={name}: {command} starts its own ranks; nearest: launch=local")


def run_ranks(command: str, folder: RunFolder, layout: Layout, launch: LaunchSettings) -> None:
    """Runs `python -m launcher.worker COMMAND RUN_DIR` as the ranks of a layout.

    Raises InputError or RunError with the message of the rank that failed first, and
    KeyboardInterrupt if a signal ended the run after the ranks handled it. No rank outlives the
    call.
    """
    if launch.port is not None:
        _require_free(launch.port)
    clear_notes(folder.logs)
    # The agent takes seconds to import and is needed only once all checks have passed.
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from launcher.start.elastic_agent import wait_for_others

    wait_for_others(launch.grace_s)
    ranks = layout.world_size
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_of_a_rank(ranks)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        rdzv_backend="c10d",
        rdzv_endpoint=f"127.0.0.1:{launch.port or 0}",
        run_id=folder.path.name,
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.2,
        logs_specs=DefaultLogsSpecs(),
        signals_to_handle=",".join(handled(launch.signal)),
        shutdown_timeout=launch.grace_s,
    )
    logging.disable(logging.ERROR)  # the agent's own failure report; ours is one line
    oom = oom_kills()
    try:
        with kept_on_this_node() as statuses:
            try:
                start = elastic_launch(config, sys.executable)
                start("-P", "-m", "launcher.worker", command, str(folder.path))
            except ChildFailedError as error:
                codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
                note_for_others(folder.logs, codes, statuses, oom)
                raise _cause(folder, layout, codes) from None
    except SignalException as error:
        raise KeyboardInterrupt from error
    finally:
        logging.disable(logging.NOTSET)


def _cause(folder: RunFolder, layout: Layout, codes: dict[int, int]) -> InputError | RunError:
    """One line for a wrong setting, the full report for anything else."""
    reported = report_of(folder, layout, codes)
    if reported is None:
        ended = listed([f"rank {rank} ended with {code}" for rank, code in sorted(codes.items())])
        return RunError(f"{ended} and left no message; more in {folder.logs}")
    report, text = reported
    return report.error if isinstance(report.error, InputError) else RunError(text)


def _require_free(port: int) -> None:
    """Raises InputError, suggesting a free port, if the rendezvous cannot listen."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                free = other.getsockname()[1]
            raise InputError(
                f"launch.port={port}: {error.strerror}; nearest: launch.port={free} or "
                "launch.port=null"
            ) from None


def outcome(folder: RunFolder) -> str:
    """A description of how the ranks ended, after a regular end."""
    stopped = folder.stopped_by()
    if stopped is None:
        return f"done: {shown(folder.path)}"
    step, reason = stopped
    again = _again(folder)
    if folder.stop_file.exists():
        again = f"{shell_command('rm', shown(folder.stop_file))} && {again}"
    return f"stopped by {reason} after step {step} and saved; {again} goes on"


def _after_interrupt(folder: RunFolder) -> str:
    saves = "(SIGTERM, or a STOP file, would have saved it)"
    if not folder.has_checkpoint():
        return f"nothing was saved {saves}; {_again(folder)} starts over"
    step = folder.saved_step()
    return f"step {step} is saved, what came after it is not {saves}; {_again(folder)} goes on"


def _again(folder: RunFolder) -> str:
    return shell_command("phalanx", "train", override("run_dir", shown(folder.path)))
