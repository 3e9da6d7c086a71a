"""launch=slurm: writes a run's batch script and submits it."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from configs.atomic import write_atomic
from configs.errors import InputError
from configs.override import override, shell_command
from configs.schema import Chain, DeviceName
from configs.words import listed
from launcher.console.run_tables import shown
from launcher.run.resolve import ResolvedRun
from launcher.run.run_dir import RunFolder
from launcher.start.launcher import counted_ranks
from slurm.commands import ENDED, states
from slurm.commands import cancel as scancel
from slurm.commands import submit as sbatch
from slurm.script import BatchJob, render


class SlurmLauncher:
    """launch=slurm: submits a batch script."""

    waits = False

    def validate(self, plan: ResolvedRun, folder: RunFolder) -> None:
        """Raises InputError if a job of the run is pending or running."""
        if plan.run.launch.submit:
            _require_no_other(folder)

    def describe(self, plan: ResolvedRun, folder: RunFolder) -> list[str]:
        """The script."""
        return [f"{counted_ranks(plan)} by this job.sbatch:", render(job_of(plan, folder))]

    def start(self, plan: ResolvedRun, folder: RunFolder, console: Console) -> None:
        """Writes the script and submits it; with launch.submit=false only prints it.

        Raises InputError if SLURM rejects it.
        """
        _submit(plan, folder, console)

    def status(self, folder: RunFolder) -> list[str]:
        """SLURM's state of the newest job."""
        return [f"job      {_job(job)}" for job in folder.read_jobs()[-1:]]

    def cancel(self, folder: RunFolder) -> str | None:
        """Signals the ranks to save and end; SLURM kills them after its KillWait.

        Raises InputError if all jobs have ended.
        """
        jobs = folder.read_jobs()
        if not jobs:
            return None
        known = states(jobs)
        alive = [job for job, about in known.items() if about.get("JobState") not in ENDED]
        if not alive:
            where = override("run_dir", shown(folder.path))
            raise InputError(f"{where}: none of its jobs is left; {len(jobs)} have ended")
        scancel(alive)
        return f"job {listed(alive)}"


def _submit(plan: ResolvedRun, folder: RunFolder, console: Console) -> None:
    write_atomic(folder.script, render(job_of(plan, folder)))
    folder.script.chmod(0o755)
    launch = plan.run.launch
    if not launch.submit:
        console.print(folder.script.read_text(encoding="utf-8"), end="")
        again = shell_command("sbatch", shown(folder.script))
        first = "" if folder.corpus.exists() else ", once its corpus is prepared (see above)"
        console.print(f"# written, not submitted: {again}{first}")
        return
    jobs = sbatch(folder.script, launch)
    write_atomic(folder.jobs, json.dumps([*folder.read_jobs(), *jobs]) + "\n")
    many = f" to {jobs[-1]}, one after the other" if len(jobs) > 1 else ""
    if launch.chain is Chain.array:
        many = f", an array of {launch.jobs} that run one at a time"
    console.print(f"submitted: job {jobs[0]}{many}; {shown(folder.script)}")
    command = shell_command("phalanx", "status", override("run_dir", shown(folder.path)))
    console.print(f"{command} says how it stands")


def _require_no_other(folder: RunFolder) -> None:
    """Raises InputError if a job of the run is pending or running: a second would be refused."""
    before = folder.read_jobs()
    for job, known in states(before[-1:]).items():
        if known.get("JobState") not in ENDED:
            where = override("run_dir", shown(folder.path))
            raise InputError(
                f"{where}: job {job} of this run is {known.get('JobState', 'there')}; nearest: "
                f"{shell_command('phalanx', 'cancel', where)}, or let it go on"
            )


def job_of(plan: ResolvedRun, folder: RunFolder) -> BatchJob:
    """The fields of the run's batch script. Needs `cluster.gpus_per_node`."""
    cluster = plan.run.cluster
    per_node = cluster.gpus_per_node
    assert per_node is not None  # the validator ensures it
    return BatchJob(
        name=f"phalanx-{plan.run.model.name}",
        run_dir=folder.path,
        work_dir=Path.cwd(),
        nodes=cluster.nodes,
        ranks_per_node=per_node,
        cuda=plan.device is DeviceName.cuda,
        launch=plan.run.launch,
        cluster=cluster,
    )


def _job(number: int) -> str:
    try:
        known = states([number]).get(number)
    except InputError as error:
        return f"{number}; {error}"
    if known is None:
        return f"{number}, which SLURM no longer knows"
    state, reason = known.get("JobState", "?"), known.get("Reason", "None")
    why = "" if reason == "None" else f" ({reason.replace('_', ' ')})"
    nodes = known.get("NodeList", "(null)")
    where = "" if nodes in ("(null)", "") else f" on {nodes}"
    return f"{number} {state}{why}{where}, restarts {known.get('Restarts', '0')}"
