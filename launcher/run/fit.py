"""Fits the layout of a run that chose none to the devices at hand. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files

import yaml

from configs.schema import DeviceName, LayoutConfig, Run
from parallel.layout import Layout
from parallel.rules import allowed

_SIZES = ("tensor", "context", "pipeline", "data", "interleave", "stage_layers")


def fitted(run: Run, ranks: int | None, device: DeviceName) -> tuple[Layout, str] | None:
    """A valid layout near the default one on at most `ranks` ranks, and a line about it.

    None if the run's layout was chosen, suits the ranks as it is, or nothing near it does.

    Args:
        ranks: None: as many as the default layout has; it is fitted to layers with experts alone.
    """
    layout, experts = run.layout, run.model.moe.experts > 0
    chosen = not layout.fit or any(getattr(layout, name) != _default()[name] for name in _SIZES)
    meant = Layout.resolve(layout, ranks)
    at_hand = meant.world_size if ranks is None and experts else ranks or 0
    if chosen or at_hand < 1 or allowed(run, meant, ranks=ranks, device=device):
        return None
    for sizes in _candidates(layout, at_hand, experts=experts):
        candidate = Layout.resolve(sizes, at_hand)
        if allowed(replace(run, layout=sizes), candidate, ranks=ranks, device=device):
            return candidate, f"layout   {candidate}, {_why(layout, meant, at_hand)}"
    return None


def _why(layout: LayoutConfig, meant: Layout, ranks: int) -> str:
    if ranks % meant.model_ranks == 0:
        return "with sequence parallel, which layers with experts need: none was chosen"
    at_hand = "1 rank" if ranks == 1 else f"{ranks} ranks"
    return (
        f"fitted to {at_hand}: none was chosen, and the default {layout.tensor}x"
        f"{layout.pipeline} takes a multiple of {meant.model_ranks}"
    )


def _candidates(layout: LayoutConfig, ranks: int, *, experts: bool) -> Iterator[LayoutConfig]:
    """Layouts of as many ranks as possible, each axis as near to the default's as possible.

    Sequence parallel where layers with experts need it.
    """
    for used in range(ranks, 0, -1):
        for tensor in range(layout.tensor, 0, -1):
            for pipeline in range(layout.pipeline, 0, -1):
                if used % (tensor * pipeline) == 0:
                    data = used // (tensor * pipeline)
                    split = layout.sequence_parallel or (experts and tensor > 1)
                    yield replace(
                        layout,
                        tensor=tensor,
                        pipeline=pipeline,
                        data=data,
                        sequence_parallel=split,
                    )


@cache
def _default() -> dict[str, object]:
    """The sizes of the default layout, which configs/layout/default.yaml takes from tp2_pp2."""
    text = files("configs").joinpath("layout", "tp2_pp2.yaml").read_text(encoding="utf-8")
    found: dict[str, object] = yaml.safe_load(text)
    return found
