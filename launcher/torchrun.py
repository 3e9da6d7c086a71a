"""launch=torchrun: what starts a run's ranks on each node, for clusters without SLURM."""

from __future__ import annotations

import os
import shlex
import sys

from rich.console import Console

from configs.errors import InputError
from launcher.plan_ranks import Plan
from launcher.run_folder import RunFolder

PORT = 29500  # torchrun's own


def start_by_torchrun(plan: Plan, folder: RunFolder, console: Console) -> None:
    """Shows every node's command; with `launch.node` becomes that node's.

    Raises InputError where nodes could not find each other.
    """
    nodes, node = nodes_of(plan), plan.run.launch.node
    if nodes > 1 and plan.run.launch.address is None:
        raise InputError(
            f"launch.address=null: {nodes} nodes have to find each other; nearest: "
            "launch.address=HOST, the first node's name or address"
        )
    if node is None:
        for number in range(nodes):
            console.print(f"node {number}: {shlex.join(command_of(plan, folder, number))}")
        return
    if node >= nodes:
        raise InputError(f"launch.node={node}: there are {nodes}; nearest: launch.node={nodes - 1}")
    command = command_of(plan, folder, node)
    sys.stdout.flush()
    os.execv(command[0], command)  # signals reach torchrun itself


def nodes_of(plan: Plan) -> int:
    per_node = plan.run.cluster.gpus_per_node
    return 1 if per_node is None else -(-plan.layout.world_size // per_node)


def command_of(plan: Plan, folder: RunFolder, node: int) -> list[str]:
    """torchrun's arguments on one node, behind the run directory, which all nodes see."""
    launch, nodes = plan.run.launch, nodes_of(plan)
    signals = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", f"SIG{launch.signal}")
    return [
        *(sys.executable, "-m", "launcher.agent", str(folder.path)),
        f"--nnodes={nodes}",
        f"--nproc-per-node={plan.layout.world_size // nodes}",
        f"--node-rank={node}",
        f"--master-addr={launch.address or '127.0.0.1'}",
        f"--master-port={launch.port or PORT}",
        "--max-restarts=0",
        f"--signals-to-handle={','.join(signals)}",
        f"--shutdown-timeout={launch.grace_s}",
        *("-m", "launcher.train", f"run_dir={folder.path}"),
    ]
