"""`phalanx cancel run_dir=DIR`: the run saves and ends, and its jobs with it."""

from __future__ import annotations

from rich.console import Console

from configs.errors import InputError
from configs.schema import Run
from configs.words import listed
from launcher.command_line.compose import hydra_app
from launcher.commands.status import existing_folder
from slurm import commands


def cancel(run: Run, _overrides: list[str]) -> None:
    """Raises InputError where there is no job to end."""
    folder = existing_folder(run)
    jobs = folder.read_jobs()
    if not jobs:
        raise InputError(f"run_dir={run.run_dir}: was never submitted")
    known = commands.states(jobs)
    alive = [job for job, about in known.items() if about.get("JobState") not in commands.ENDED]
    if not alive:
        raise InputError(f"run_dir={run.run_dir}: none of its jobs is left; {len(jobs)} have ended")
    # scancel sends SIGTERM, which the ranks heed, and SIGKILL after the cluster's KillWait.
    commands.cancel(alive)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"cancelled: job {listed(alive)}")


app = hydra_app(cancel)
