"""Steps of smaller runs, measured on this machine's CPU: plans of larger ones follow from them.

What a CPU takes for a step depends on the code (Python's own share is large), on the versions of
libraries, on threads, and on how many ranks share the cores: constants measured elsewhere are off
by several times. So `phalanx train` measures, for some seconds before its first step, the same
layout with fewer layers and micro-batches, and keeps what it found. A step is linear in both:

    T = a + b layers + micro-batches (c + d layers)

with the optimizer in a and b, and the pipeline's filling too. Imports no torch.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil

from configs.atomic import write_atomic
from configs.schema import DeviceName, LaunchName, Run
from models.shape import ModelShape
from parallel.hardware import threads_of_a_rank
from parallel.layout import Layout

PACKAGES = ("torch", "megatron-core", "deepspeed", "numpy")
CODE = ("models.ops", "models.training", "parallel.engines", "parallel.runtime")
"""What runs in a step; a change of it makes measurements stale."""
MOST = 4
"""Layers of a probe, at most, in rounds through all chunks of all stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A measured step."""

    layers: int
    micro_batches: int
    seconds: float


def sizes(layers: int, micro_batches: int, layout: Layout) -> list[tuple[int, int]]:
    """Layers and micro-batches of the steps to measure; none are larger than the run's own.

    Layers of alternating kinds come in pairs, hence the two rounds.
    """
    each = layout.pipeline * layout.chunks_per_stage
    kinds = [layers] if layers <= MOST * each else [MOST // 2 * each, MOST * each]
    first = layout.pipeline if layout.chunks_per_stage > 1 else 1
    counts = [count for count in (first, 2 * first) if count <= micro_batches]
    return [(layer, count) for layer in kinds for count in counts or [micro_batches]]


def extrapolated(probes: Sequence[Probe], layers: int, micro_batches: int) -> float:
    """Seconds of a step with these layers and micro-batches."""
    lines = {
        each: _line(
            [(probe.micro_batches, probe.seconds) for probe in probes if probe.layers == each],
            micro_batches,
        )
        for each in {probe.layers for probe in probes}
    }
    return _line(sorted(lines.items()), layers)


def _line(points: Sequence[tuple[int, float]], at: int) -> float:
    (x, y), *others = points
    if not others:
        return y
    (further, there) = others[-1]
    return y + (there - y) * (at - x) / (further - x)


def path() -> Path:
    """Where they are kept: beside prepared texts."""
    return Path(os.environ.get("PHALANX_CACHE") or "~/.cache/phalanx").expanduser() / "probes.json"


def may_be_measured(run: Run, layout: Layout, device: DeviceName) -> bool:
    """Whether a run on this machine's CPU is of a kind that probes can say something of."""
    return (
        device is DeviceName.cpu
        and run.launch.name is LaunchName.local
        and layout.stage_layers is None
    )


def kept(run: Run, layout: Layout) -> list[Probe]:
    """What was measured of this code, machine and layout; empty if nothing was."""
    try:
        found = json.loads(path().read_text(encoding="utf-8"))[key(run, layout)]
        return [Probe(**each) for each in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def keep(run: Run, layout: Layout, probes: Sequence[Probe]) -> None:
    """Writes them down for later plans; an empty list forgets. A disk that is full is no fault."""
    with suppress(OSError):
        place = path()
        place.parent.mkdir(parents=True, exist_ok=True)
        entries: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            entries = json.loads(place.read_text(encoding="utf-8"))
        entries[key(run, layout)] = [asdict(each) for each in probes]
        write_atomic(place, json.dumps(entries, indent=1) + "\n")


def key(run: Run, layout: Layout) -> str:
    """Of everything that a step's time depends on but layers and micro-batches."""
    shape = {**ModelShape.of(run.model).settings(), "layers": None}
    what = [
        fingerprint(),
        # As ranks have it from their launcher; a plan is asked for in a process of its own.
        os.environ.get("OMP_NUM_THREADS") or str(threads_of_a_rank(layout.world_size)),
        shape,
        asdict(layout),
        str(run.engine),
        str(run.precision),
        str(run.optimizer.name),
        run.train.document_mask,
    ]
    return sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:32]


@cache
def fingerprint() -> str:
    """Of this machine, the packages that a step runs in, and our own code that does."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()
    parts = [platform.node(), platform.machine(), _processor(), str(cores)]
    parts.append(platform.python_version())
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            parts.append(f"{name} {metadata.version(name)}")
    whole = sha256("\n".join(parts).encode())
    for package in CODE:
        root = Path(str(files(package.split(".")[0]))) / Path(*package.split(".")[1:])
        for source in sorted(root.rglob("*.py")):
            whole.update(source.read_bytes())
    return whole.hexdigest()


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()
