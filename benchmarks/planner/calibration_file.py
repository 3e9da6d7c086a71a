"""What the fit of the planner's constants comes to, as calibration.json keeps it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.planner.constants import COMMON, Floats, Model, pair_of
from benchmarks.planner.published import Published
from parallel.planner.inputs.calibration import Overheads, calibration_data
from parallel.planner.inputs.cpu import NAME as CPU

OURS = "phalanx"
"""Ours has no published run: its constants are those of a GPU, without a program's own part."""
GPUS = {  # as calibration.json names them: the GPU whose runs stand for it, None for all together
    "A100": "A100",
    "A100-40GB": "A100-SXM-40GB",
    "A800": "A100",
    "H100": "H100",
    "H200": "H100",
    "H20": "H100",
    "B200": "GB200",
    "B300": "GB200",
    "GB200": "GB200",
    "V100": None,
    "RTX-8000": None,
    "L40S": None,
    "MI300X": None,
}
OF_AMD = ("MI300X",)
NAMES = {
    "H100-96GB": "H100-96GB",
    "A100": "A100",
    "A100-SXM-40GB": "A100-40GB",
    "H100": "H100",
    "GB200": "GB200",
}


def contents(
    model: Model, x: Floats, runs: Sequence[Published], overheads: dict[str, Overheads]
) -> dict[str, Any]:
    counts = Counter(pair_of(run) for run in runs)
    common = asdict(model.constants(x, "", ""))
    software: dict[str, Any] = {OURS: {"gpus": {}}}
    for name, gpu in GPUS.items():
        values = asdict(model.constants(x, "", gpu or ""))
        software[OURS]["gpus"][name] = {
            "basis": _basis_of_ours(name, gpu, counts),
            "constants": _own(values, COMMON),
        }
    for (program, gpu), count in sorted(counts.items()):
        entry = software.setdefault(program, {"gpus": {}})
        values = asdict(model.constants(x, program, gpu))
        entry["gpus"][NAMES[gpu]] = {
            "basis": f"{count} published runs of {program} on {gpu}",
            "constants": _own(values, COMMON),
        }
    if CPU in calibration_data()["software"][OURS]["gpus"]:  # benchmarks.planner.fit_cpu's business
        software[OURS]["gpus"][CPU] = calibration_data()["software"][OURS]["gpus"][CPU]
    for program, overhead in overheads.items():
        software[program]["overheads"] = asdict(overhead)
    return {
        "about": "Written by benchmarks/planner/fit.py from benchmarks/measured; do not edit.",
        "common": {name: float(f"{common[name]:.4g}") for name in COMMON},
        "software": software,
    }


def _own(values: dict[str, float], common: Sequence[str]) -> dict[str, float]:
    return {name: float(f"{v:.4g}") for name, v in values.items() if name not in common}


def _basis_of_ours(name: str, gpu: str | None, counts: Counter[tuple[str, str]]) -> str:
    if gpu is None:
        all_gpus = "all NVIDIA GPUs" if name in OF_AMD else "all GPUs"
        return f"no run on {name} is among the published: the mean of {all_gpus} and software"
    programs = [program for program, other in counts if other == gpu]
    count = sum(count for (_, other), count in counts.items() if other == gpu)
    stand_in = "" if NAMES.get(gpu) == name else f", which stands for {name}"
    several = f"{len(programs)} programs" if len(programs) > 1 else programs[0]
    return f"{count} published runs of {several} on {gpu}{stand_in}; none of them is of ours"
