"""launch=slurm: writes a run's batch script and submits it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rich.console import Console

from configs.schema import Chain, DeviceName
from launcher.plan_ranks import Plan
from launcher.run_folder import RunFolder
from launcher.show import shown
from slurm.commands import submit as sbatch
from slurm.script import Job, render


def submit(plan: Plan, folder: RunFolder, console: Console) -> None:
    """Raises InputError where SLURM refuses the script."""
    folder.script.write_text(render(job_of(plan, folder)), encoding="utf-8")
    folder.script.chmod(0o755)
    launch = plan.run.launch
    if not launch.submit:
        console.print(folder.script.read_text(encoding="utf-8"), end="")
        console.print(f"# written, not submitted: sbatch {shlex.quote(shown(folder.script))}")
        return
    jobs = sbatch(folder.script, launch)
    folder.jobs.write_text(json.dumps([*folder.read_jobs(), *jobs]) + "\n", encoding="utf-8")
    many = f" to {jobs[-1]}, one after the other" if len(jobs) > 1 else ""
    if launch.chain is Chain.array:
        many = f", an array of {launch.jobs} that run one at a time"
    console.print(f"submitted: job {jobs[0]}{many}; {shown(folder.script)}")
    console.print(f"phalanx status run_dir={shown(folder.path)} says how it stands")


def job_of(plan: Plan, folder: RunFolder) -> Job:
    cluster = plan.run.cluster
    per_node = cluster.gpus_per_node
    assert per_node is not None  # the validator has seen to it
    return Job(
        name=f"phalanx-{plan.run.model.name}",
        run_dir=folder.path,
        work_dir=Path.cwd(),
        nodes=cluster.nodes,
        ranks_per_node=per_node,
        cuda=plan.device is DeviceName.cuda,
        launch=plan.run.launch,
        cluster=cluster,
    )
