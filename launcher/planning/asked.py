"""What `phalanx plan` was asked for: a device, ranks, a layout, and a second one beside it."""

from __future__ import annotations

from dataclasses import replace

from configs.errors import InputError
from configs.schema import DeviceName, Run
from launcher.command_line.compose import composed_run
from launcher.run.settings import key_of
from parallel.hardware import choose_device, cuda_devices
from parallel.layout import Layout
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.plan import Plan
from parallel.planner.ways import with_fastest_way
from parallel.rules import check

NOT_BESIDE = ("plan", "format", "run_dir", "debug", "launch")
"""Settings, or groups of them, of the command and not of what is planned."""


def ranks_of(run: Run) -> tuple[DeviceName, int | None]:
    """The device to plan for and the cluster's ranks; a GPU cluster implies CUDA."""
    cluster = run.cluster
    if cluster.gpu is not None and run.device is not DeviceName.cpu:
        machine_of(cluster)
        return DeviceName.cuda, cluster.nodes * (cluster.gpus_per_node or 1)
    device = choose_device(run.device)
    if device is DeviceName.cuda:
        machine_of(cluster)
    return device, cuda_devices() if device is DeviceName.cuda else None


def layout_of(run: Run, ranks: int | None, device: DeviceName, overrides: list[str]) -> Layout:
    """The requested layout; the single-rank layout if none was requested and there is one GPU."""
    requested = names_a_layout(overrides) or run.run_dir is not None
    if ranks == 1 and not requested:
        return Layout(micro_batch=1)
    return with_fastest_way(run, Layout.resolve(run.layout, ranks), ranks, device)


def names_a_layout(overrides: list[str]) -> bool:
    """Whether a layout, or a part of one, was typed."""
    return any(key_of(override).split(".")[0] == "layout" for override in overrides)


def second_of(run: Run, overrides: list[str], chosen: Layout | None) -> Plan:
    """The plan of the run with `plan.beside` as further settings.

    Raises InputError if it cannot work.

    Args:
        chosen: the layout that a search found, which the second has but for these settings; None:
            the one that was typed.
    """
    more = list(run.plan.beside or [])
    for word in more or [""]:
        if not word or key_of(word).split(".")[0] in NOT_BESIDE or key_of(word) == "cluster.from":
            raise InputError(
                f"plan.beside=[{word}]: is no setting of what is planned; nearest: "
                "plan.beside=[layout.micro_batch=1]"
            )
    if chosen is not None:
        sizes = {key_of(word) for word in more if key_of(word).startswith("layout.")}
        config = chosen.as_config()
        run = replace(run, layout=replace(config, data=None) if sizes else config)
    second = composed_run(run, overrides, more)
    second = replace(second, plan=replace(second.plan, beside=None, search=False))
    device, ranks = ranks_of(second)
    asked = [*overrides, *more, *([] if chosen is None else [f"layout={chosen}"])]
    layout = layout_of(second, ranks, device, asked)
    check(second, layout, ranks=ranks, device=device)
    return Plan.of(second, layout, device)
