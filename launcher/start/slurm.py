"""launch=slurm: writes a run's batch script and submits it."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from configs.atomic import write_atomic
from configs.errors import InputError
from configs.override import override, shell_command
from configs.schema import Chain, DeviceName
from launcher.console.run_tables import shown
from launcher.run.resolve import ResolvedRun
from launcher.run.run_dir import RunFolder
from slurm.commands import ENDED, states
from slurm.commands import submit as sbatch
from slurm.script import BatchJob, render


def submit(plan: ResolvedRun, folder: RunFolder, console: Console) -> None:
    """Raises InputError where SLURM refuses the script."""
    write_atomic(folder.script, render(job_of(plan, folder)))
    folder.script.chmod(0o755)
    launch = plan.run.launch
    if not launch.submit:
        console.print(folder.script.read_text(encoding="utf-8"), end="")
        again = shell_command("sbatch", shown(folder.script))
        first = "" if folder.corpus.exists() else ", once its corpus is prepared (see above)"
        console.print(f"# written, not submitted: {again}{first}")
        return
    _require_no_other(folder)
    jobs = sbatch(folder.script, launch)
    write_atomic(folder.jobs, json.dumps([*folder.read_jobs(), *jobs]) + "\n")
    many = f" to {jobs[-1]}, one after the other" if len(jobs) > 1 else ""
    if launch.chain is Chain.array:
        many = f", an array of {launch.jobs} that run one at a time"
    console.print(f"submitted: job {jobs[0]}{many}; {shown(folder.script)}")
    ask = shell_command("phalanx", "status", override("run_dir", shown(folder.path)))
    console.print(f"{ask} says how it stands")


def _require_no_other(folder: RunFolder) -> None:
    """Raises InputError where a job of the run waits or runs: the second would only be refused."""
    before = folder.read_jobs()
    for job, known in states(before[-1:]).items():
        if known.get("JobState") not in ENDED:
            where = override("run_dir", shown(folder.path))
            raise InputError(
                f"{where}: job {job} of this run is {known.get('JobState', 'there')}; nearest: "
                f"{shell_command('phalanx', 'cancel', where)}, or let it go on"
            )


def job_of(plan: ResolvedRun, folder: RunFolder) -> BatchJob:
    """What the batch script says of the run. Needs `cluster.gpus_per_node`."""
    cluster = plan.run.cluster
    per_node = cluster.gpus_per_node
    assert per_node is not None  # the validator has seen to it
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
