"""launch=torchrun: what starts a run's ranks on each node, for clusters without SLURM."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from configs.override import override, shell_command
from launcher.run.resolve import ResolvedRun
from launcher.run.run_dir import RunFolder
from slurm.agent import agent_arguments

PORT = 29500  # torchrun's own


def start_by_torchrun(plan: ResolvedRun, folder: RunFolder, console: Console) -> None:
    """Shows every node's command; with `launch.node` becomes that node's."""
    node = plan.run.launch.node
    if node is None:
        for number in range(_nodes(plan)):
            console.print(f"node {number}: {shell_command(*command_of(plan, folder, number))}")
        return
    command = command_of(plan, folder, node)
    sys.stdout.flush()
    os.execv(command[0], command)  # signals reach torchrun itself


def _nodes(plan: ResolvedRun) -> int:
    return plan.layout.nodes(plan.run.cluster.gpus_per_node)


def command_of(plan: ResolvedRun, folder: RunFolder, node: int) -> list[str]:
    """torchrun's arguments on one node, behind the run directory, which all nodes see."""
    launch, nodes = plan.run.launch, _nodes(plan)
    return [
        *(sys.executable, "-P", "-m", "launcher.start.torchrun_node", str(folder.path)),
        *agent_arguments(
            nodes=nodes,
            ranks_per_node=plan.layout.world_size // nodes,
            node=node,
            address=launch.address or "127.0.0.1",
            port=launch.port or PORT,
            signal=launch.signal,
            grace_s=launch.grace_s,
        ),
        *("-m", "launcher.train", override("run_dir", str(folder.path))),
    ]
