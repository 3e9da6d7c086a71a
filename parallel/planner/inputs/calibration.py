"""The calibration constants: what fraction of a GPU's published figures software reaches.

One small set for each pair of software and GPU, fitted by `benchmarks/planner/fit.py` to published
runs and kept in calibration.json, which also names the runs. A pair without measurements gets the
set of the same software on the nearest GPU, corrected by how the two GPUs differ under other
software. Imports no torch.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

FAMILIES = (
    *("V100", "RTX-8000", "A100", "A800", "H100", "H200", "H20", "B200", "GB200", "B300"),
    *("L40S", "MI300X"),
)
"""GPUs that a plan knows; a name is of the one whose parts are all among its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Fractions are of the published figure and at most 1."""

    matmul: float  # share of the peak that a large matmul reaches
    memory: float  # share of the memory bandwidth that element-wise kernels reach
    attention: float  # share of the peak in attention's own matmuls
    kernel_us: float  # a kernel's launch and the gap before the next
    links: float  # share of the node's links in tensor-parallel collectives
    network: float  # share of the network
    hop: float  # share of a message between stages that a stage waits for in every micro-batch
    hop_interleaved: float  # the same where stages hold several chunks
    hop_overlapped: float  # the same where chunks compute while messages are on their way
    overlap: float  # share of the lesser of ZeRO 3's gathers and the compute that is not hidden
    # The same for all.
    depth: float  # a matmul over k numbers takes 1 + depth / k as long as a deep one
    waves: float  # share of the last wave's idle multiprocessors that is lost
    misaligned: float  # slowdown of attention's matmuls where heads are no multiple of 8 wide
    tensor_us: float  # latency of a tensor-parallel collective
    hop_us: float  # of a message between stages
    hidden: float  # share of tensor collectives that matmuls hide where they go on meanwhile
    ring: float  # share of attention's time that each further piece of a ring adds
    gather_us: float  # of a gather over data ranks, for each doubling of their number


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """What a GPU's memory holds besides the tensors that a plan counts."""

    framework_gib: float = 1.0  # CUDA context, NCCL's and cuBLAS's own buffers
    deepspeed_gib: float = 0.0  # more of it under DeepSpeed, where ranks are processes of a CPU
    activations: float = 1.0  # memory taken for each byte of activations: copies and fragments


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Constants, and the measurements they are based on."""

    constants: Constants
    overheads: Overheads
    software: str
    gpu: str
    basis: str  # which measured runs
    errors: tuple[float, ...] = ()  # of one's own runs, if these are theirs: planned / measured


@cache
def calibration_data() -> dict[str, Any]:
    """Reads calibration.json, once per process."""
    text = files("parallel.planner.inputs").joinpath("calibration.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def software_names() -> list[str]:
    """The software that calibration.json has constants for."""
    return list(calibration_data()["software"])


def family(gpu: str) -> str | None:
    """The family of a GPU's name; None if it is unknown."""
    return next((name for name in FAMILIES if _is_of(gpu, name)), None)


def calibrated(software: str, gpu: str) -> Calibrated:
    """Raises KeyError for software or a GPU that calibration.json does not have."""
    data = calibration_data()
    kept = data["software"][software]
    name = _nearest_gpu(gpu, list(kept["gpus"]))
    entry = kept["gpus"][name]
    values = {**data["common"], **entry["constants"]}
    return Calibrated(
        constants=Constants(**{field.name: values[field.name] for field in fields(Constants)}),
        overheads=Overheads(**entry.get("overheads", kept.get("overheads", {}))),
        software=software,
        gpu=name,
        basis=entry["basis"],
    )


def _nearest_gpu(gpu: str, known: list[str]) -> str:
    """A100-40GB before A100: the longest known name whose parts are all in `gpu`."""
    fitting = [name for name in known if _is_of(gpu, name)]
    if not fitting:
        raise KeyError(gpu)
    return max(fitting, key=len)


def _is_of(gpu: str, name: str) -> bool:
    """Part by part: an H200 is no H20, and a GB200 no B200."""
    return set(name.split("-")) <= set(re.split(r"[-_\s]+", gpu))
