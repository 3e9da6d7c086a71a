"""A plan as one self-contained HTML page: nothing is loaded, it opens from a file.

Imports no torch.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from parallel.planner.plan import Plan


def page(plan: Plan, told: dict[str, Any]) -> str:
    """The page of a plan.

    Args:
        told: what `format=json` would print, with the search and the trace if there are any.
    """
    layers = [
        ", ".join(
            f"{r.start}-{r.stop - 1}" for r in plan.layout.layers_on(stage, plan.shape.layers)
        )
        for stage in range(plan.layout.pipeline)
    ]
    data = {**told, "layout_name": str(plan.layout), "layers": layers, "timeline": _timeline(plan)}
    # In a script element nothing is markup but its own end.
    text = json.dumps(data).replace("<", "\\u003c")
    html = _part("page.html")
    for mark, part in (
        ("/*CSS*/", _part("page.css")),
        ("/*JS*/", _part("page.js")),
        ("/*DATA*/", text),
    ):
        html = html.replace(mark, part)
    return html


def _timeline(plan: Plan) -> dict[str, Any]:
    played = plan.played
    return {
        "seconds": played.seconds,
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
            ]
            for stage in played.events
        ],
    }


def _part(name: str) -> str:
    return files("parallel.planner").joinpath(name).read_text(encoding="utf-8")
