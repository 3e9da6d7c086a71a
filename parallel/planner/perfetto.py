"""The schedule in the trace format that Chrome (chrome://tracing) and Perfetto open.

Imports no torch.
"""

from __future__ import annotations

from typing import Any

from parallel.planner.schedule import Played


def perfetto(played: Played) -> dict[str, Any]:
    """A process for the pipeline, a thread for each stage, an event for each pass."""
    events: list[dict[str, Any]] = []
    for stage, passes in enumerate(played.events):
        events.append(
            {
                "ph": "M",
                "name": "thread_name",
                "pid": 0,
                "tid": stage,
                "args": {"name": f"stage {stage}"},
            }
        )
        for event in passes:
            way = "forward" if event.op.forward else "backward"
            events.append(
                {
                    "ph": "X",
                    "name": f"{way} {event.op.micro_batch}",
                    "cat": way,
                    "pid": 0,
                    "tid": stage,
                    "ts": event.begin * 1e6,  # microseconds
                    "dur": (event.end - event.begin) * 1e6,
                    "args": {"micro_batch": event.op.micro_batch, "chunk": event.op.chunk},
                }
            )
    return {"traceEvents": events, "displayTimeUnit": "ms"}
