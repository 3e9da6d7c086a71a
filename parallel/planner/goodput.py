"""How much of a training's time is training: failures, the checkpoints against them, restarts.

Failures come at a constant rate (a Poisson process), on any node. What a failure costs is the work
since the last checkpoint that was complete, and a restart; what a checkpoint costs is the time that
training stands still for it. Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HOUR = 3600.0

# Llama 3 405B's pre-training: 419 unexpected interruptions within 54 days on 16,384 H100, which
# are 2,048 nodes (The Llama 3 Herd of Models, arXiv 2407.21783, section 3.3.4 and table 5).
GPU_HOURS_A_FAILURE = 54 * 24 * 16_384 / 419

BYTES_A_PARAMETER = 12  # of a checkpoint, in float32: a weight and Adam's two moments

# Measured by this project, on a CPU (benchmarks/README.md). None of it is known of a GPU yet.
# benchmarks.checkpoint.stall, 27.4M parameters on two ranks: training waits 0.006 of 5.05 s for the
# copy of 164 MB a rank that a checkpoint is written from.
COPY_RATE = 27.4e6 * BYTES_A_PARAMETER / 2 / (0.006 * 5.05)
# benchmarks.checkpoint.rate: a save, which reads back what it wrote, goes at 0.34 of the 1,321 MB/s
# that a disk writes, a load at 1.02 of the 830 MB/s that it reads; here each node has such a disk.
SAVE_RATE = 0.34 * 1.321e9
LOAD_RATE = 1.02 * 0.830e9
# benchmarks.checkpoint.restart, two ranks: from a kill to the end of the run, and from there to the
# first step of the next start. A queue, or a node to be replaced, takes more.
NOTICED_S = 1.0
STARTED_S = 18.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """A training with failures; times in seconds."""

    step: float
    failure: float  # mean time between failures of any node
    stall: float  # that training stands still for a checkpoint
    written: float  # from the copy until a checkpoint is complete; 0: training waits for it
    restart: float  # from a failure to the next step
    every: int  # steps between checkpoints

    @property
    def interval(self) -> float:
        """Seconds of training between checkpoints."""
        return self.every * self.step

    @property
    def fraction(self) -> float:
        """Useful time over all time: the complete model of Daly 2006, of work that is long.

        A failure while a checkpoint is being written goes back to the one before it, which costs
        `written` more, on average.
        """
        lost = (self.restart + self.written) / self.failure
        segment = (self.interval + self.stall) / self.failure
        if lost + segment > 700:  # no segment is ever finished
            return 0.0
        return self.interval / (self.failure * math.exp(lost) * math.expm1(segment))


def goodput(
    *,
    parameters: int,
    gpus: int,
    gpus_per_node: int,
    step: float,
    waits: bool,
    node_failure_hours: float | None = None,
) -> Goodput:
    """With a checkpoint as often as costs least: every sqrt(2 x stall x time between failures)
    (Young 1974; Daly 2006), but no sooner than the one before it is complete, and in whole steps.

    Args:
        step: seconds of a step.
        waits: whether training waits until a checkpoint is written.
        node_failure_hours: mean hours until one node fails; None: of a node of as many GPUs, those
            of Llama 3's pre-training.
    """
    nodes = max(gpus // gpus_per_node, 1)
    hours = node_failure_hours or GPU_HOURS_A_FAILURE / gpus_per_node
    a_node = BYTES_A_PARAMETER * parameters / nodes
    writing = a_node / SAVE_RATE
    stall = writing if waits else a_node / gpus_per_node / COPY_RATE
    failure = hours * HOUR / nodes
    least = 0.0 if waits else writing
    best = max(math.sqrt(2 * stall * failure), least)
    return Goodput(
        step=step,
        failure=failure,
        stall=stall,
        written=0.0 if waits else writing,
        restart=NOTICED_S + STARTED_S + a_node / LOAD_RATE,
        every=max(math.ceil(best / step) if best == least else round(best / step), 1),
    )
