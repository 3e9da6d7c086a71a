"""The search that `phalanx plan` asks for, and what is nearest where it finds nothing.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from configs.errors import InputError
from configs.override import override
from configs.schema import DeviceName, EngineConfig, Run
from configs.words import listed
from parallel.layout import Layout
from parallel.planner.candidates import divisors
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.own import constants_for
from parallel.planner.search import (
    Found,
    every_engine,
    fits_somewhere,
    search,
    some_layout_is_valid,
)
from parallel.rules import check


def engines_of(run: Run, typed: Collection[str]) -> list[EngineConfig]:
    """The engines to try: all of them, unless one was typed, or is that of a run that goes on.

    Args:
        typed: the settings that were typed, as engine or engine.offload_optimizer.
    """
    if run.run_dir is not None or any(_of_engine(key) for key in typed):
        return [run.engine]
    return every_engine()


def offloading(run: Run, typed: Collection[str]) -> list[EngineConfig]:
    """The engines to try where nothing fits, with the optimizer in host memory."""
    if run.run_dir is not None or "engine.offload_optimizer" in typed:
        return []
    given = any(_of_engine(key) for key in typed)
    return [
        each for each in every_engine(offloads=True) if not given or each.name is run.engine.name
    ]


def _of_engine(key: str) -> bool:
    return key.split(".")[0] == "engine"


def searched(run: Run, device: DeviceName, ranks: int | None, typed: Collection[str]) -> Found:
    """Raises InputError if no layout is valid or none fits."""
    if ranks is None:
        raise InputError(
            f"plan.search=true cluster={run.cluster.name}: for how many ranks is not said; "
            "nearest: cluster=dgx_a100 cluster.nodes=1"
        )
    found = found_on(run, device, ranks, typed)
    if found.leanest is None and not found.ranked:
        raise _none_is_valid(run, ranks, device, found, engines_of(run, typed))
    if not found.ranked:
        engines = engines_of(run, typed) + offloading(run, typed)
        raise InputError(_fits_nowhere(run, ranks, found, engines))
    return found


def found_on(run: Run, device: DeviceName, ranks: int, typed: Collection[str]) -> Found:
    """What a search finds; only where nothing fits, with the optimizer in host memory."""
    machine = machine_of(run.cluster)
    calibration = constants_for(run, machine)
    found = search(run, ranks, device, machine, calibration, engines_of(run, typed))
    others = offloading(run, typed)
    if found.ranked or found.leanest is None or not others:
        return found
    offloaded = search(run, ranks, device, machine, calibration, others)
    return offloaded if offloaded.ranked else found


def _none_is_valid(
    run: Run, ranks: int, device: DeviceName, found: Found, engines: list[EngineConfig]
) -> InputError:
    nearest = _nearest_batches(run, ranks, device, engines)
    if not nearest:  # whatever the batch: the rules say why of the simplest layout
        check(_with_batch(run, ranks), Layout(data=ranks), ranks=ranks, device=device)
    return InputError(
        f"plan.search=true: none of {found.tried} layouts of {ranks} ranks is valid for "
        f"model={run.model.name}, train.global_batch={run.train.global_batch}, "
        f"optimizer.ramp_start={run.optimizer.ramp_start}; nearest: "
        f"{listed(nearest, apart=' or ')}"
    )


def _nearest_batches(
    run: Run, ranks: int, device: DeviceName, engines: list[EngineConfig]
) -> list[str]:
    """Overrides with which some layout is valid: the nearest global batch below and above, with the
    ramp-up if one works with it. Empty if no batch helps.
    """
    batch, start = run.train.global_batch, max(run.optimizer.ramp_start, 1)
    constant = _with_batch(run, batch)
    for ramped, before in ((run, ""), (constant, "optimizer.ramp_tokens=0")):
        # A batch is a multiple of the replicas, whose number divides the ranks, and of the ramp's
        # first batch if there is one.
        units = [*divisors(ranks), *(math.lcm(size, start) for size in divisors(ranks))]
        below = sorted({batch // unit * unit for unit in units} - {0}, reverse=True)
        above = sorted({(batch // unit + 1) * unit for unit in units})
        found = [
            next((each for each in side if _is_valid(ramped, each, ranks, device, engines)), None)
            for side in (below, above)
        ]
        ways = [it for it in dict.fromkeys(found) if it is not None]
        if before and batch in ways:
            return [before]
        if ways:
            return [f"{before} {override('train.global_batch', it)}".strip() for it in ways]
    return []


def _with_batch(run: Run, batch: int) -> Run:
    """The run with this global batch from the first step on."""
    constant = replace(run.optimizer, ramp_tokens=0)
    return replace(run, optimizer=constant, train=replace(run.train, global_batch=batch))


def _is_valid(
    run: Run, batch: int, ranks: int, device: DeviceName, engines: list[EngineConfig]
) -> bool:
    """Whether any layout is, with this global batch."""
    tried = replace(run, train=replace(run.train, global_batch=batch))
    gpus = machine_of(run.cluster).link_gpus
    return any(
        some_layout_is_valid(replace(tried, engine=engine), ranks, device, gpus)
        for engine in engines
    )


def _fits_nowhere(run: Run, ranks: int, found: Found, engines: list[EngineConfig]) -> str:
    assert found.leanest is not None
    needed = found.leanest.memory / 2**30
    limit = found.limit / 2**30
    nodes = run.cluster.nodes
    return (
        f"model={run.model.name}: none of {found.valid} valid layouts of {ranks} ranks fits into "
        f"{limit:,.1f} GiB of {run.cluster.gpu}; the leanest ({found.leanest.layout}) needs "
        f"{needed:,.1f} GiB; nearest: {_larger(run, nodes, engines)}"
    )


def _larger(run: Run, nodes: int, engines: list[EngineConfig]) -> str:
    """The smallest number of nodes, by doubling, on which something fits."""
    machine = machine_of(run.cluster)
    calibration = constants_for(run, machine)
    for _ in range(8):
        nodes *= 2
        larger = replace(run, cluster=replace(run.cluster, nodes=nodes))
        ranks = nodes * machine.gpus_per_node
        if fits_somewhere(larger, ranks, DeviceName.cuda, machine, calibration, engines):
            return f"cluster.nodes={nodes}"
    return "a smaller model or a GPU with more memory"
