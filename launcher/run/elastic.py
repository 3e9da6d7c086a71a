"""launch.elastic: the planner's best layout when the number of nodes differs from the configured.

The global batch, the order of the data and the checkpoint are unchanged. The result depends only on
the settings and the number of ranks, so every rank computes the same one. Imports no torch.
"""

from __future__ import annotations

from dataclasses import replace

from configs.errors import InputError
from configs.schema import DeviceName, Run
from parallel.layout import Layout
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.cpu import NAME as CPU
from parallel.planner.inputs.cpu import nominal_machine
from parallel.planner.inputs.job import OURS
from parallel.planner.search import search
from parallel.rules import allowed


def nodes_and_layout(run: Run, nodes: int, device: DeviceName) -> tuple[int, Layout]:
    """The largest usable number of at most `nodes` nodes for which a layout fits, and that layout.

    Raises InputError if nothing fits on launch.min_nodes or more.
    """
    per_node = run.cluster.gpus_per_node
    assert per_node is not None  # a job knows its nodes
    for count in range(nodes, run.launch.min_nodes - 1, -1):
        layout = layout_on(run, count * per_node, device)
        if layout is not None:
            return count, layout
    raise InputError(
        f"launch.elastic=true: no layout of model={run.model.name} with train.global_batch="
        f"{run.train.global_batch} fits on {nodes} nodes, nor on fewer down to launch.min_nodes="
        f"{run.launch.min_nodes}; nearest: cluster.nodes={run.cluster.nodes}"
    )


def layout_on(run: Run, ranks: int, device: DeviceName) -> Layout | None:
    """The configured layout on the configured number of ranks; otherwise the planner's fastest.

    None if no layout for this number of ranks is valid and fits.
    """
    requested = Layout.resolve(run.layout, ranks)
    as_asked = requested.world_size == ranks and ranks == (_asked_ranks(run) or ranks)
    if as_asked and allowed(run, requested, ranks=ranks, device=device):
        return requested
    if device is DeviceName.cpu:
        per_node = run.cluster.gpus_per_node or ranks
        machine, calibration = nominal_machine(per_node), calibrated(OURS, CPU)
    else:
        machine = machine_of(run.cluster)
        calibration = calibrated(run.cluster.software, machine.gpu)
    found = search(run_on(run, ranks), ranks, device, machine, calibration)
    return found.ranked[0].layout if found.ranked else None


def run_on(run: Run, ranks: int) -> Run:
    """The run with as many nodes as `ranks` ranks need."""
    per_node = run.cluster.gpus_per_node
    if per_node is None:
        return run
    return replace(run, cluster=replace(run.cluster, nodes=-(-ranks // per_node)))


def _asked_ranks(run: Run) -> int | None:
    per_node = run.cluster.gpus_per_node
    return None if per_node is None else run.cluster.nodes * per_node
