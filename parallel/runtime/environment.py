"""The environment variables of a rank. Set them before torch is imported, which reads them once.

Imports no torch.
"""

from __future__ import annotations

import os

from configs.errors import InputError
from configs.schema import DeviceName, Run
from parallel.hardware import compute_capability, interface_fault

_MOST_COMPILERS = 8
_BLACKWELL = (10, 0)


def rank_environment(run: Run, ranks_here: int) -> dict[str, str]:
    """The variables of a rank of `run`, one of `ranks_here` on this machine.

    Raises InputError for an interface that the machine does not have.
    """
    variables: dict[str, str] = {}
    if run.launch.interface is not None:
        if fault := interface_fault(run.launch.interface):
            raise InputError(fault)
        variables["GLOO_SOCKET_IFNAME"] = run.launch.interface
        variables["NCCL_SOCKET_IFNAME"] = f"={run.launch.interface}"  # exactly that one
    if run.device is DeviceName.cuda:
        variables |= _cuda(run, ranks_here)
    return variables


def _cuda(run: Run, ranks_here: int) -> dict[str, str]:
    cuda, layout = run.cuda, run.layout
    cores = len(os.sched_getaffinity(0))
    workers = cuda.compile_workers or min(_MOST_COMPILERS, max(1, cores // max(ranks_here, 1)))
    variables = {"TORCHINDUCTOR_COMPILE_THREADS": str(workers)}
    capability = compute_capability()
    blackwell = capability is not None and capability >= _BLACKWELL
    # Megatron-core's linears overlap a collective with a matmul by launching them in order, which
    # before Blackwell holds in a single hardware queue only. ZeRO 3 gathers parameters meanwhile,
    # for which it takes several.
    if layout.tensor > 1 and layout.zero != 3 and not blackwell:
        variables["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
    # Of the two names torch reads this one first, so it would hide what a user says by the other.
    if cuda.expandable_segments and "PYTORCH_ALLOC_CONF" not in os.environ:
        variables["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
        if cuda.graphs:  # NCCL registers a graph's buffers, which such segments do not allow
            variables["NCCL_GRAPH_REGISTER"] = "0"
    return variables
