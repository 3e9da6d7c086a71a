"""What the probe tries, in the process that has torch.

A check yields what it finds, or raises what is wrong. Each runs on CUDA and, to be rehearsed, on
a CPU.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

from launcher.doctor.finding import Finding, output_of
from launcher.doctor.gpus import links_in, links_in_words, runs_on
from models.ops.attention.banded import flash_fault
from parallel.runtime.gpu_packages import MISSING, import_fault, transformer_engine_fault

SIDE = 64  # of the matrices: a product of numbers up to 2 is at most 256, exact in bfloat16
NUMBERS = 1 << 20  # each rank's, in the sum
RANKS_ON_CPU = 2
MEETS_WITHIN_S = 60
PACKAGES: dict[str, tuple[Callable[[], str | None], str]] = {
    # Why a run would pass each over, and what it gives.
    "transformer_engine": (transformer_engine_fault, "Megatron-core's layers on CUDA"),
    "flash_attn": (flash_fault, "banded attention in half precision; without it, flex attention"),
    "apex": (partial(import_fault, "apex"), "fused kernels that Megatron-core takes"),
}


def starts(device: str) -> Iterator[Finding]:
    """The driver answers torch."""
    if device == "cpu":
        yield Finding("CUDA", "not asked", f"torch {torch.__version__} on a CPU", None)
        return
    # Raises what the driver says.
    torch.cuda.init()  # type: ignore[no-untyped-call]
    driver = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    yield Finding(
        "CUDA",
        f"{torch.version.cuda}, {torch.cuda.device_count()} GPUs",
        f"driver {driver.splitlines()[0] if driver else 'unknown: nvidia-smi does not answer'}",
    )


def lists(device: str) -> Iterator[Finding]:
    """The GPUs, those alike in one line, and whether torch has code for them."""
    if device == "cpu":
        return
    built_for = torch.cuda.get_arch_list()
    alike: Counter[tuple[str, int, int, int]] = Counter()
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        alike[about.name, about.major, about.minor, about.total_memory] += 1
    for (name, major, minor, memory), count in alike.items():
        runs = runs_on((major, minor), built_for)
        yield Finding(
            "GPUs",
            f"{count} x {name}",
            f"{memory / 2**30:.0f} GiB each, compute capability {major}.{minor}"
            + ("" if runs else f", for which this torch has no code: {' '.join(built_for)}"),
            runs,
        )


def links(device: str) -> Iterator[Finding]:
    """What joins the GPUs of this machine."""
    count = torch.cuda.device_count() if device == "cuda" else 0
    if count < 2:
        return
    if found := links_in(output_of("nvidia-smi", "topo", "-m")):
        yield Finding("links", links_in_words(found), good=None)
        return
    pairs = list(combinations(range(count), 2))
    reach = sum(torch.cuda.can_device_access_peer(one, other) for one, other in pairs)
    said = f"{reach} of {len(pairs)} pairs of GPUs read each other's memory"
    yield Finding("links", "unknown", f"nvidia-smi does not say; {said}", None)


def multiplies(device: str) -> Iterator[Finding]:
    """Every GPU multiplies matrices of whole numbers, which has to be exact."""
    numbers = torch.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    left, right = numbers % 3, numbers % 2
    expected = left @ right
    places = [device] if device == "cpu" else _gpus()
    for place in places:
        for kind in (torch.float32, torch.bfloat16):
            product = left.to(place, kind) @ right.to(place, kind)
            if not torch.equal(product.cpu().long(), expected):
                raise RuntimeError(f"{place} multiplies wrongly in {kind}")
    yield Finding("multiply", "right", "in float32 and bfloat16")


def compiles(device: str) -> Iterator[Finding]:
    """Inductor compiles a kernel: with Triton on CUDA, with g++ on a CPU."""
    numbers = torch.arange(-SIDE, SIDE, dtype=torch.float32)
    answer = torch.compile(_folded, fullgraph=True)(numbers.to(device)).cpu()
    if not torch.equal(answer, _folded(numbers)):
        raise RuntimeError("a compiled kernel computes wrongly")
    by = f"Triton {_version('triton')}" if device == "cuda" else "Inductor, with g++"
    yield Finding("compile", "right", f"a kernel by {by}")


def _folded(numbers: torch.Tensor) -> torch.Tensor:
    return torch.where(numbers > 0, numbers * 2 + 1, -numbers)


def sums(device: str) -> Iterator[Finding]:
    """A process for each GPU, and they add up numbers: over NCCL on CUDA, over gloo on a CPU."""
    ranks = torch.cuda.device_count() if device == "cuda" else RANKS_ON_CPU
    with tempfile.TemporaryDirectory(prefix="phalanx-doctor-") as folder:
        meeting = f"file://{Path(folder) / 'meeting'}"
        try:
            spawn(_sum, (ranks, device, meeting), ranks)  # type: ignore[no-untyped-call]
        except ProcessRaisedException as error:
            # It holds the rank's traceback, of which the last line says what was wrong.
            raise RuntimeError(str(error).strip().splitlines()[-1]) from None
    over = "gloo"
    if device == "cuda":
        version = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        over = f"NCCL {'.'.join(map(str, version))}"
    yield Finding("all-reduce", "right", f"over {over}, {ranks} ranks")


def _sum(rank: int, ranks: int, device: str, meeting: str) -> None:
    """One rank's part. Raises RuntimeError if the sum is wrong."""
    place = torch.device(device, rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    torch.distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=meeting,
        rank=rank,
        world_size=ranks,
        timeout=datetime.timedelta(seconds=MEETS_WITHIN_S),
        device_id=place if device == "cuda" else None,
    )
    numbers = torch.full((NUMBERS,), rank + 1.0, device=place)
    torch.distributed.all_reduce(numbers)
    right = ranks * (ranks + 1) // 2
    if not bool((numbers == right).all()):
        raise RuntimeError(f"{ranks} ranks added up to {numbers[0].item():g} instead of {right}")
    torch.distributed.destroy_process_group()


def imports(package: str) -> Callable[[str], Iterator[Finding]]:
    """A check of an optional package by what a run asks of it; a run does without a broken one."""

    def check(_device: str) -> Iterator[Finding]:
        fault_of, gives = PACKAGES[package]
        fault = fault_of()
        if fault is None:
            yield Finding(package, _version(package), gives)
        elif fault == MISSING:
            yield Finding(package, MISSING, gives, None)
        else:
            yield Finding(package, _version(package), f"passed over: {fault}", None)

    return check


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "installed"


def _gpus() -> list[str]:
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


# In this order: those after one that ends the process are not tried.
CHECKS: dict[str, Callable[[str], Iterator[Finding]]] = {
    "CUDA": starts,
    "GPUs": lists,
    "links": links,
    "multiply": multiplies,
    "compile": compiles,
    "all-reduce": sums,
    **{package: imports(package) for package in PACKAGES},
}
