"""What a profile of `phalanx train` says: kernels side by side, and what the host waited for."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
_MATMUL = re.compile(r"gemm|nvjet|cutlass|xmma", re.IGNORECASE)

Span = tuple[float, float]


@dataclass(frozen=True)
class Profile:
    """Microseconds, and counts over the whole window."""

    operations: int  # of torch, on the host
    nccl_us: float  # NCCL's kernels
    beside_us: float  # the part of it with a matmul at the same time
    waits: Counter[str]  # calls that wait for the device, and copies to the host


def read_profile(path: Path) -> Profile:
    """Reads profile/rank_N.json."""
    events = [
        event
        for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        if event.get("ph") == "X"
    ]
    nccl: list[Span] = []
    matmuls: list[Span] = []
    waits: Counter[str] = Counter()
    for event in events:
        name, kind = str(event["name"]), event.get("cat")
        span = float(event["ts"]), float(event["ts"]) + float(event.get("dur", 0.0))
        if kind == "kernel" and "nccl" in name.lower():
            nccl.append(span)
        elif kind == "kernel" and _MATMUL.search(name):
            matmuls.append(span)
        elif (kind == "cuda_runtime" and name in _WAITS) or (
            kind == "gpu_memcpy" and "DtoH" in name
        ):
            waits[name] += 1
    return Profile(
        operations=sum(event.get("cat") == "cpu_op" for event in events),
        nccl_us=_length(_united(nccl)),
        beside_us=_shared(_united(nccl), _united(matmuls)),
        waits=waits,
    )


def _united(spans: list[Span]) -> list[Span]:
    """The same time in spans that do not overlap."""
    united: list[Span] = []
    for begin, end in sorted(spans):
        if united and begin <= united[-1][1]:
            united[-1] = united[-1][0], max(end, united[-1][1])
        else:
            united.append((begin, end))
    return united


def _length(spans: list[Span]) -> float:
    return sum(end - begin for begin, end in spans)


def _shared(some: list[Span], others: list[Span]) -> float:
    """The time that is in both: what both have, less what they cover together."""
    return _length(some) + _length(others) - _length(_united([*some, *others]))
