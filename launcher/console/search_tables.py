"""Renders a search in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import yaml
from omegaconf import OmegaConf
from rich.table import Table

from configs.schema import DeviceName, EngineName, Run
from launcher.console.plan_tables import new_table
from parallel.layout import Layout
from parallel.planner.plan import Plan
from parallel.planner.search import KEPT, Candidate, Found
from parallel.rules import violations

_GIB = 2**30
_IN_WORDS = {
    "engine": "",
    "batch": "micro-batch",
    "seq": "sequence parallel",
    "ZeRO": "ZeRO",
    "recomp": "recompute",
}
"""Columns that are left out where all rows agree, and what is said in their place."""


def beside_the_search(
    run: Run, layout: Layout, device: DeviceName, ranks: int | None, found: Found
) -> dict[str, Any]:
    """The given layout compared with a search's results: its place, or why it has none."""
    settings = {"layout": str(layout), "micro_batch": layout.micro_batch}
    faults = violations(run, layout, ranks=ranks, device=device)
    if faults:
        return {**settings, "valid": False, "why": [str(fault) for fault in faults]}
    plan = Plan.of(run, layout, device)
    best, faster = found.ranked[0].seconds, plan.time.seconds
    return {
        **settings,
        "valid": True,
        "fits": plan.fits,
        "seconds": plan.time.seconds,
        "gib": plan.memories[plan.fullest].total / _GIB,
        "place": 1 + sum(each.seconds < faster for each in found.ranked),
        "of": found.valid,
        "slower": plan.time.seconds / best - 1,
    }


def asked_line(asked: dict[str, Any]) -> str:
    """Formats the result of `beside_the_search` as one line."""
    name = f"asked    {asked['layout']}, micro-batch {asked['micro_batch']}"
    if not asked["valid"]:
        return f"{name}: cannot be: " + "; ".join(asked["why"])
    fits = "" if asked["fits"] else ", and does not fit"
    slower = f"{asked['slower'] * 100:+.1f} % of the fastest's time"
    at = f"{asked['place']:,}" if asked["place"] <= KEPT else f"after the first {KEPT:,}"
    place = f"place {at} of {asked['of']:,}" if asked["fits"] else "no place"
    return f"{name}: {asked['seconds']:,.3f} s ({slower}), {asked['gib']:,.1f} GiB{fits}; {place}"


def search_tables(found: Found, run: Run) -> list[Table]:
    """The `plan.top` fastest layouts, and the Pareto front of memory and time."""
    ranks = found.ranked[0].layout.world_size
    best = candidates_table(
        f"the fastest of {found.valid:,} valid layouts of {ranks:,} ranks ({found.tried:,} tried)",
        found.ranked[: run.plan.top],
    )
    front = candidates_table(
        "memory against time: no other layout is both leaner and faster", found.front
    )
    return [best, front]


def candidates_table(title: str, candidates: Sequence[Candidate]) -> Table:
    """One row each; what all have in common is in the title instead of a column."""
    columns = {
        "layout": [layout_name(each.layout) for each in candidates],
        "engine": [str(each.engine.name) for each in candidates],
        "batch": [str(each.layout.micro_batch) for each in candidates],
        "seq": ["yes" if each.layout.sequence_parallel else "no" for each in candidates],
        "ZeRO": [str(each.layout.zero) for each in candidates],
        "recomp": [str(each.layout.recompute) for each in candidates],
        "step s": [f"{each.seconds:,.3f}" for each in candidates],
        "GiB": [f"{each.memory / _GIB:,.1f}" for each in candidates],
    }
    alike = {
        name
        for name, cells in columns.items()
        if name in _IN_WORDS and len(cells) > 1 and len(set(cells)) == 1
    }
    common = [
        f"{_IN_WORDS[name]} {cells[0]}".removesuffix(" yes").strip()
        for name, cells in columns.items()
        if name in alike and cells[0] != "no"
    ]
    table = new_table(f"{title}\nall: {', '.join(common)}" if common else title)
    shown = {name: cells for name, cells in columns.items() if name not in alike}
    for name in shown:
        right = name in ("batch", "ZeRO", "step s", "GiB")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    return table


def layout_name(layout: Layout) -> str:
    """A layout with its way of attention, schedule and uneven stages: 8x4-cp2 ring 7,2x8,7."""
    words = [str(layout)]
    if layout.context_by is not None:
        words.append(str(layout.context_by))
    if layout.dualpipev:
        words.append("DualPipeV")
    if layout.stage_layers is not None:
        words.append(_stages(layout.stage_layers))
    return " ".join(words)


def _stages(layers: tuple[int, ...]) -> str:
    """Layers of each stage, as 7,14x8,7."""
    runs = [(size, len(list(same))) for size, same in groupby(layers)]
    return ",".join(f"{count}x{size}" if count > 1 else str(size) for size, count in runs)


def why_the_runner_up_lost(found: Found) -> str:
    """The settings in which the second layout differs from the first, and their cost."""
    first, second = found.ranked[0], found.ranked[1]
    ours, theirs = _told(first), _told(second)
    changes = [
        f"{name} {theirs[name]} instead of {ours[name]}"
        for name in ours
        if ours[name] != theirs[name]
    ]
    slower = (second.seconds / first.seconds - 1) * 100
    memory = (second.memory - first.memory) / _GIB
    return (
        f"runner-up {second.layout}: {', '.join(changes)}; {slower:.2f} % slower, "
        f"{memory:+,.1f} GiB"
    )


def _told(candidate: Candidate) -> dict[str, Any]:
    layout = candidate.layout
    told = {"engine": candidate.engine.name, **asdict(layout)}
    if layout.stage_layers is not None:
        told["stage_layers"] = _stages(layout.stage_layers)
    return told


def with_engine(candidate: Candidate) -> str:
    """What goes with its layout's file, where it is not of the engine that is taken by itself."""
    usual = EngineName.megatron
    engine = candidate.engine
    offload = " engine.offload_optimizer=true" if engine.offload_optimizer else ""
    return "" if engine.name is usual else f", with engine={engine.name}{offload}"


def layout_yaml(layout: Layout) -> str:
    """A file for configs/layout, ready to use."""
    settings = OmegaConf.to_container(OmegaConf.structured(layout.as_config()), enum_to_str=True)
    assert isinstance(settings, dict)
    # The layers of stages on one line, however many.
    lines = (
        yaml.safe_dump({name: value}, default_flow_style=None, width=10_000)
        if isinstance(value, list)
        else yaml.safe_dump({name: value})
        for name, value in settings.items()
    )
    return "".join(lines).strip()
