"""A plan as one self-contained HTML page that loads nothing and opens from a file.

Imports no torch.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from parallel.planner.plan import Plan
from parallel.planner.report.as_json import GIB, layout_fields
from parallel.planner.search import PLAYED, Found
from parallel.planner.timing.simulate import Played

SCRIPTS = ("page.marks.js", "page.figures.js", "page.beside.js", "page.timeline.js", "page.js")
PASSES = 30_000  # of the schedule to draw: a page of about 1 MB


def page(plan: Plan, report: dict[str, Any], found: Found | None = None) -> str:
    """The page of a plan.

    Args:
        report: the output of `format=json`, with the search, the trace and the layout beside it
            if there are any.
        found: the search, for drawing all its layouts; without it only those in `report` are
            drawn.
    """
    stages = range(plan.layout.pipeline)
    data = {
        **report,
        "cluster": plan.run.cluster.name,
        "global_batch": plan.job.global_batch,
        "experts": plan.shape.moe.experts,
        "gpus_per_node": plan.machine.gpus_per_node,
        "sustained_tflops": plan.run.cluster.sustained_tflops,
        "layers": [_spans(plan.layout.layers_on(stage, plan.shape.layers)) for stage in stages],
        "timeline": _timeline(plan.played),
        "played_through": PLAYED,
        "candidates": _candidates(found) if found and found.ranked else None,
    }
    # In a script element only its closing tag is markup.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    html = _part("page.html")
    for mark, part in (
        ("/*CSS*/", _part("page.css")),
        ("/*JS*/", "".join(_part(name) for name in SCRIPTS)),
        ("/*DATA*/", text),
    ):
        html = html.replace(mark, part)
    return html


def _spans(layers: list[range]) -> str:
    return ", ".join(f"{r.start}-{r.stop - 1}" if len(r) > 1 else str(r.start) for r in layers)


def _timeline(played: Played) -> dict[str, Any]:
    passes = sum(map(len, played.events))
    seconds = played.seconds * min(1.0, PASSES / passes)
    return {
        "seconds": seconds,
        "cut": seconds < played.seconds,
        "micro_batches": len({event.op.micro_batch for event in played.events[0]}),
        "events": [
            [
                [
                    int(event.op.forward),
                    event.op.chunk,
                    event.op.micro_batch,
                    round(event.begin, 6),
                    round(event.end, 6),
                ]
                for event in stage
                if event.begin < seconds
            ]
            for stage in played.events
        ],
    }


def _candidates(found: Found) -> dict[str, Any]:
    """The fastest layouts, one row each: objects would repeat field names thousands of times."""
    return {
        "fields": list(layout_fields(found.ranked[0].layout)),
        "rows": [
            [*layout_fields(each.layout).values(), each.seconds, each.memory / GIB]
            for each in found.ranked
        ],
    }


def _part(name: str) -> str:
    return files("parallel.planner.report").joinpath(name).read_text(encoding="utf-8")
