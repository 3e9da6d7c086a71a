"""Which way of attention a split sequence takes where none was chosen. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from configs.errors import InputError
from configs.schema import ContextBy, DeviceName, Run
from parallel.layout import Layout
from parallel.planner.inputs.calibration import Calibrated, calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.cpu import NAME as CPU
from parallel.planner.inputs.cpu import nominal_machine
from parallel.planner.inputs.job import OURS, Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.timing.step import Step
from parallel.rules import allowed


def with_fastest_way(run: Run, layout: Layout, ranks: int | None, device: DeviceName) -> Layout:
    """The layout with `context_by`, by the plan's time of a step, if it has context ranks.

    The result depends only on the settings, so that it is the same in a plan and on every rank.
    """
    if layout.context <= 1 or layout.context_by is not None:
        return layout
    ways = [replace(layout, context_by=way) for way in ContextBy]
    valid = [each for each in ways if allowed(run, each, ranks=ranks, device=device)]
    if not valid:  # other rules are broken, and are told
        return ways[0]
    machine, calibration = _known(run, layout, device)
    return min(
        valid,
        key=lambda each: Step(Job.of(run, each), machine, calibration.constants).seconds_estimate(),
    )


def _known(run: Run, layout: Layout, device: DeviceName) -> tuple[Machine, Calibrated]:
    if device is DeviceName.cuda:
        try:
            machine = machine_of(run.cluster)
            return machine, calibrated(run.cluster.software, machine.gpu)
        except InputError:  # which GPU it is, is not known before ranks start
            pass
    joined = run.cluster.link_gpus or run.cluster.gpus_per_node or layout.world_size
    return nominal_machine(joined), calibrated(OURS, CPU)
