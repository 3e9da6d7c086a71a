"""The batch script of a run. Imports no torch."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from configs.errors import InputError
from configs.override import override
from configs.schema import Chain, GpusBy, LaunchConfig
from configs.settings.planning import ClusterConfig
from slurm.agent import agent_arguments

TEMPLATE = "job.sbatch.j2"
SCRIPT = "job.sbatch"
AGAIN = 75  # exit status of `launcher.start.slurm_job end`: restart (sysexits' EX_TEMPFAIL)
NOTHING = 3  # of `launcher.start.slurm_job begin`: the run is done


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """The fields of the script.

    Attributes:
        cuda: whether the ranks are on GPUs; otherwise no GPU is requested.
    """

    name: str
    run_dir: Path
    work_dir: Path
    nodes: int
    ranks_per_node: int
    cuda: bool
    launch: LaunchConfig
    cluster: ClusterConfig


def render(job: BatchJob) -> str:
    """Renders the script. Only the job defines nodes and ranks, so they cannot disagree.

    Raises InputError for names that SLURM cannot represent.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda name: files("slurm").joinpath(name).read_text(encoding="utf-8")
        ),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["quoted"] = lambda value: shlex.quote(str(value))
    environment.filters["inside"] = _inside_double_quotes
    launch, here = job.launch, sys.executable
    ranks_python = launch.python or here
    return environment.get_template(TEMPLATE).render(
        directives=list(_directives(job)),
        script=job.run_dir / SCRIPT,
        work_dir=job.work_dir,
        run_dir=job.run_dir,
        run_dir_setting=override("run_dir", str(job.run_dir)),
        setup=launch.setup,
        ranks_per_node=job.ranks_per_node,
        cpus_per_task=launch.cpus_per_task,
        cuda=job.cuda,
        port=launch.port,
        # Per-node values are expanded by the shell that srun starts on the node.
        agent=" ".join(
            agent_arguments(
                nodes="$nodes",
                ranks_per_node=job.ranks_per_node,
                node=r"\$SLURM_PROCID",
                address="$MASTER_ADDR",
                port="$MASTER_PORT",
                signal=launch.signal,
                grace_s=launch.grace_s,
            )
        ),
        python=shlex.join([*launch.wrapper, ranks_python]),
        # What pyxis runs inside is srun's; a wrapper takes everything inside.
        node_python=shlex.join([*launch.wrapper, ranks_python] if launch.wrapper else [here]),
        srun_arguments=shlex.join(_srun_arguments(launch)),
        requeue=launch.chain is Chain.none,
        again=AGAIN,
        nothing=NOTHING,
    )


def _directives(job: BatchJob) -> Iterator[str]:
    launch = job.launch
    array = launch.chain is Chain.array
    yield f"--job-name={_one_word('model.name', job.name)}"
    for name in ("account", "partition", "qos", "reservation", "constraint", "exclude"):
        value = getattr(launch, name)
        if value is not None:
            yield f"--{name}={_one_word(f'launch.{name}', value)}"
    if launch.elastic and launch.min_nodes < job.nodes:
        # Given a number of tasks, SLURM would allocate only the minimum number of nodes.
        yield f"--nodes={launch.min_nodes}-{job.nodes}"
    else:
        yield f"--nodes={job.nodes}"
        yield "--ntasks-per-node=1"  # torchrun starts the ranks
    if launch.exclusive:
        yield "--exclusive"
    if launch.cpus_per_task is not None:
        yield f"--cpus-per-task={launch.cpus_per_task}"
    if job.cluster.gpu is not None and launch.gpus_by is not GpusBy.none:
        asked = "--gpus-per-node=" if launch.gpus_by is GpusBy.gpus_per_node else "--gres=gpu:"
        yield f"{asked}{job.ranks_per_node}"
    if launch.time_limit is not None:
        yield f"--time={launch.time_limit}"
    # Not B: with it SLURM would signal only the batch script's shell.
    yield f"--signal={launch.signal}@{launch.grace_s}"
    logs = str(job.run_dir / "logs").replace("%", "%%")  # % is special to sbatch
    out = f"{logs}/slurm-{'%A_%a' if array else '%j'}.out"
    yield f"--output={_one_word('run_dir', out)}"
    yield "--open-mode=append"  # a requeued job continues in the same file
    if array:
        yield f"--array=1-{launch.jobs}%1"
    yield "--requeue" if launch.chain is Chain.none else "--no-requeue"
    yield from launch.directives


def _one_word(setting: str, value: str) -> str:
    """A value as sbatch parses a line after #SBATCH: with quotes, without shell variables.

    Raises InputError for what such a line cannot hold.
    """
    if "\n" in value or "\\" in value:
        raise InputError(
            f"{setting}={value!r}: a line of #SBATCH holds neither line breaks nor backslashes; "
            f"nearest: {setting}={value.replace(chr(10), '_').replace(chr(92), '_')}"
        )
    if re.fullmatch(r"[\w./%@:+,=&|*\[\]{}()^~-]+", value):
        return value
    return '"' + value.replace('"', '\\"') + '"'


def _srun_arguments(launch: LaunchConfig) -> list[str]:
    # If a node's ranks fail, srun ends the others at once.
    return [
        "--ntasks-per-node=1",
        "--kill-on-bad-exit=1",
        "--wait=60",
        "--export=ALL",
        *launch.srun,
    ]


def _inside_double_quotes(text: str) -> str:
    for special in ("\\", '"', "$", "`"):
        text = text.replace(special, f"\\{special}")
    return text
