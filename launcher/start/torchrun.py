"""launch=torchrun: commands that start a run's ranks on each node, for clusters without SLURM."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from configs.override import override, shell_command
from launcher.run.resolve import ResolvedRun
from launcher.run.run_dir import RunFolder
from launcher.start.launcher import counted_ranks
from slurm.agent import agent_arguments

PORT = 29500  # torchrun's default


class TorchrunLauncher:
    """launch=torchrun: one command per node, run by the user or another tool."""

    waits = False

    def validate(self, plan: ResolvedRun, folder: RunFolder) -> None:
        """Nothing: the rules check the nodes and the address."""

    def describe(self, plan: ResolvedRun, folder: RunFolder) -> list[str]:
        """The command of every node, or of launch.node."""
        node = plan.run.launch.node
        requested = range(_nodes(plan)) if node is None else [node]
        commands = [_line(plan, folder, number) for number in requested]
        return [f"{counted_ranks(plan)} by torchrun:", *commands]

    def start(self, plan: ResolvedRun, folder: RunFolder, console: Console) -> None:
        """Prints every node's command; with `launch.node` becomes that node's command."""
        node = plan.run.launch.node
        if node is None:
            for number in range(_nodes(plan)):
                console.print(_line(plan, folder, number))
            return
        command = command_of(plan, folder, node)
        sys.stdout.flush()
        os.execv(command[0], command)  # signals reach torchrun itself

    def status(self, folder: RunFolder) -> list[str]:
        """Nothing: the owner of the run directory is printed anyway."""
        return []

    def cancel(self, folder: RunFolder) -> str | None:
        """Nothing: whoever started the ranks ends them, or a STOP file does."""
        return None


def _line(plan: ResolvedRun, folder: RunFolder, node: int) -> str:
    return f"node {node}: {shell_command(*command_of(plan, folder, node))}"


def _nodes(plan: ResolvedRun) -> int:
    return plan.layout.nodes(plan.run.cluster.gpus_per_node)


def command_of(plan: ResolvedRun, folder: RunFolder, node: int) -> list[str]:
    """torchrun's arguments on one node, after the run directory, which all nodes share."""
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
