"""What torchrun's agent is told on every node. Imports no torch."""

from __future__ import annotations


def handled(warning: str) -> list[str]:
    """Names of the signals that the agent passes on to its ranks.

    `warning` is launch.signal: torchrun dies of one that it is not told of, and leaves its ranks.
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
    """torchrun's; strings may be a shell's variables, which it fills in."""
    return [
        f"--nnodes={nodes}",
        f"--nproc-per-node={ranks_per_node}",
        f"--node-rank={node}",
        f"--master-addr={address}",
        f"--master-port={port}",
        "--max-restarts=0",  # a start begins again as a whole
        f"--signals-to-handle={','.join(handled(signal))}",
        f"--shutdown-timeout={grace_s}",
    ]
