"""Resolves and checks the device, the number of ranks and the layout before anything starts.

Imports no torch, so that mistakes are reported within a second.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from configs.override import override
from configs.schema import DeviceName, LaunchName, Run
from launcher.run import fit
from launcher.run.host_memory import memory_fault
from models.shape import ModelShape
from parallel.advice import advice
from parallel.hardware import choose_device, cuda_devices, interface_fault
from parallel.layout import Layout
from parallel.planner.ways import with_fastest_way
from parallel.rules import refusal, violations


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRun:
    """A run with every open setting resolved."""

    run: Run
    layout: Layout
    device: DeviceName
    notes: tuple[str, ...] = ()  # lines for the user on what was resolved how

    @property
    def shape(self) -> ModelShape:
        """The model's shape."""
        return ModelShape.of(self.run.model)

    def noting(self, lines: tuple[str, ...]) -> ResolvedRun:
        """With these lines before the other notes."""
        return replace(self, notes=(*lines, *self.notes))


def resolve(run: Run, environment: Mapping[str, str] = os.environ) -> ResolvedRun:
    """Resolves `auto` and `null` and checks every rule.

    Raises InputError with one line for each invalid setting.
    """
    device = device_of(run, environment)
    if "RANK" in environment:  # started by torchrun or another launcher that sets it
        address = environment.get("MASTER_ADDR")
        launch = replace(run.launch, name=LaunchName.torchrun, address=address, node=None)
        run = replace(run, launch=launch)
        ranks: int | None = int(environment["WORLD_SIZE"])
    else:
        ranks = _ranks_at_hand(run, device)
    run, layout, notes = _fitted(run, ranks, device)
    layout = with_fastest_way(run, layout, ranks, device)
    faults = [str(fault) for fault in violations(run, layout, ranks=ranks, device=device)]
    faults += _other_faults(run, layout, device, starts_here(run, environment))
    if faults:
        raise refusal(faults)
    notes += tuple(advice(run, layout))
    run = replace(run, device=device, layout=layout.as_config())
    return ResolvedRun(run=run, layout=layout, device=device, notes=notes)


def _fitted(run: Run, ranks: int | None, device: DeviceName) -> tuple[Run, Layout, tuple[str, ...]]:
    """The configured layout, or that for the available ranks if the run is elastic or chose none;
    and lines for the user.
    """
    if run.launch.elastic and ranks is not None:
        from launcher.run.elastic import layout_on, run_on

        fitted = layout_on(run, ranks, device)
        if fitted is not None:
            return run_on(run, ranks), fitted, ()
    near = fit.fitted(run, ranks, device)
    if near is not None:
        layout, line = near
        return replace(run, layout=layout.as_config()), layout, (line,)
    return run, Layout.resolve(run.layout, ranks), ()  # the validator checks the rest


def device_of(run: Run, environment: Mapping[str, str] = os.environ) -> DeviceName:
    """Resolves `auto`: this machine's device, or the cluster's if the ranks start elsewhere."""
    elsewhere = not starts_here(run, environment)
    if elsewhere and run.device is DeviceName.auto and run.cluster.gpu is not None:
        return DeviceName.cuda
    return choose_device(run.device)


def starts_here(run: Run, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the run's ranks are, or will be, processes of this machine."""
    launch = run.launch
    this_node = launch.name is LaunchName.torchrun and launch.node is not None
    return "RANK" in environment or launch.name is LaunchName.local or this_node


def _ranks_at_hand(run: Run, device: DeviceName) -> int | None:
    cluster = run.cluster
    if cluster.gpus_per_node is not None:
        return cluster.nodes * cluster.gpus_per_node
    return cuda_devices() if device is DeviceName.cuda else None


def _other_faults(run: Run, layout: Layout, device: DeviceName, here: bool) -> list[str]:
    faults = []
    if run.cluster.from_ is not None:
        faults.append(
            f"{override('cluster.from', run.cluster.from_)}: only plan asks the machine what it "
            "has, and prints it as a file; nearest: cluster.from=null"
        )
    if run.log.wandb and importlib.util.find_spec("wandb") is None:
        faults.append("log.wandb=true: wandb is not installed; nearest: log.wandb=false")
    counted = run.cluster.gpus_per_node is None  # otherwise the rules have checked it
    if here and run.device is DeviceName.cuda and cuda_devices() == 0 and not counted:
        faults.append("device=cuda: no CUDA device here; nearest: device=cpu")
    alone = run.launch.name is LaunchName.local
    interface = run.launch.interface
    if here and interface is not None and (fault := interface_fault(interface)):
        faults.append(fault)
    ranks = max(layout.world_size, 1)
    if alone and (fault := memory_fault(run, layout, device, ranks)):
        faults.append(fault)
    return faults
