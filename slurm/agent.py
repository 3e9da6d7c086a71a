"""The arguments of torchrun's agent on every node. Imports no torch."""

from __future__ import annotations


def handled(warning: str) -> list[str]:
    """Names of the signals that the agent forwards to its ranks.

    `warning` is launch.signal: torchrun dies of a signal missing here, and leaves its ranks behind.
    """
    return ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", f"SIG{warning}"]


def agent_arguments(
    *,
    nodes: int | str,
    ranks_per_node: int,
    node: int | str,
    address: str,
    port: int | str,
    signal: str,
    grace_s: int,
) -> list[str]:
    """torchrun's arguments; strings may be shell variables, which the shell expands."""
    return [
        f"--nnodes={nodes}",
        f"--nproc-per-node={ranks_per_node}",
        f"--node-rank={node}",
        f"--master-addr={address}",
        f"--master-port={port}",
        "--max-restarts=0",  # the entire start is restarted instead
        f"--signals-to-handle={','.join(handled(signal))}",
        f"--shutdown-timeout={grace_s}",
    ]
