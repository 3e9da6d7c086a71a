"""What the GPU kit found, check by check: one JSON, written whole after each of them."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from configs.atomic import write_atomic
from configs.schema import DeviceName
from tests.cli import ROOT
from tests.gpu.page import page

# Of each file of checks: its budget in seconds on GPUs, in the order of running. All one GPU's come
# first. Together they are fifteen minutes; a check whose file has spent its own is skipped, which
# the page says.
BUDGETS_S = {
    "engines": 80,
    "attention": 190,
    "runs": 160,
    "speed": 240,
    "overlap": 80,
    "layouts": 90,
    "failures": 60,
}
PACKAGES = ("torch", "megatron-core", "deepspeed", "transformer_engine", "flash_attn", "triton")
_DEVICES = """
import json, torch
gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
print(json.dumps([[gpu.name, round(gpu.total_memory / 2**30, 1)] for gpu in gpus]))
"""


@dataclass
class Check:
    """One test of the kit: what it measured, and how it ended."""

    group: str
    name: str
    status: str = "not run"  # then running, and passed, failed or skipped
    reason: str | None = None
    seconds: float = 0.0
    numbers: list[dict[str, Any]] = field(default_factory=list)

    def note(self, what: str, value: float | str | None, allowed: float | None = None) -> None:
        """Keeps a number, and the largest that is right if there is one."""
        finite = not isinstance(value, float) or math.isfinite(value)
        # JSON has neither NaN nor infinity.
        self.numbers.append(
            {"what": what, "value": value if finite else str(value), "allowed": allowed}
        )

    def within(self, what: str, value: float, allowed: float) -> None:
        """Keeps it, and fails beyond what is allowed; NaN is beyond everything."""
        self.note(what, value, allowed)
        assert value <= allowed, f"{what}: {value:.3g}, allowed are {allowed:g}"


class Kit:
    """All checks that were asked for, and what they ran on."""

    def __init__(self, path: Path, device: DeviceName) -> None:
        self.path = path
        self.checks: dict[str, Check] = {}  # by pytest's id
        self._started = time.monotonic()
        self._conditions = conditions(device)

    def spent_s(self, group: str) -> float:
        """Seconds that a group's checks have taken so far."""
        return sum(check.seconds for check in self.checks.values() if check.group == group)

    def write(self) -> None:
        """The JSON, and the page beside it."""
        checks = list(self.checks.values())
        groups = {
            name: {"seconds": round(self.spent_s(name), 1), "budget_s": budget}
            for name, budget in BUDGETS_S.items()
            if any(check.group == name for check in checks)
        }
        found = {
            **self._conditions,
            "seconds": round(time.monotonic() - self._started, 1),
            "counts": {
                status: sum(check.status == status for check in checks)
                for status in ("passed", "failed", "skipped", "running", "not run")
            },
            "groups": groups,
            "checks": [asdict(check) for check in checks],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(found, indent=1, allow_nan=False) + "\n")
        write_atomic(self.path.with_suffix(".html"), page(found))


def conditions(device: DeviceName) -> dict[str, Any]:
    """The machine and its software. CUDA is asked in a process of its own: this one keeps none."""
    cuda = device is DeviceName.cuda
    devices = json.loads(_said(sys.executable, "-c", _DEVICES) or "[]") if cuda else []
    driver = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "rehearsal": not cuda,
        "device": ", ".join(sorted({name for name, _ in devices})) or "CPU",
        "devices": len(devices),
        "memory_gib": min((memory for _, memory in devices), default=None),
        "driver": driver.partition("\n")[0] or None if cuda else None,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _said("git", "describe", "--always", "--dirty") or None,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        **_built_for(),
    }


def _built_for() -> dict[str, str | None]:
    import torch

    nccl: Any = None
    if torch.version.cuda:
        nccl = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
    return {
        "cuda": torch.version.cuda,
        "nccl": ".".join(map(str, nccl)) if isinstance(nccl, tuple) else nccl,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _said(*command: str) -> str:
    """The output of a program; empty if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
