"""The schedule in the trace format that Chrome (chrome://tracing) and Perfetto open.

Imports no torch.
"""

from __future__ import annotations

from typing import Any

from parallel.planner.timing.simulate import Played


def perfetto(played: Played, micro_batches: int) -> dict[str, Any]:
    """One process for the pipeline, one thread per stage, one event per pass.

    `micro_batches` are those of the full step; `played` may contain only the first.
    """
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
    held = len({event.op.micro_batch for event in played.events[0]})
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"micro_batches": f"{held} of {micro_batches}"},
    }
