"""`phalanx doctor`: what this machine has, and what works on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.console import Console

from configs.errors import InputError, RunError
from configs.schema import DeviceName, Run
from configs.words import counted, listed
from launcher.command_line.compose import hydra_app
from launcher.doctor.ask import WITHIN_S, ask
from launcher.doctor.finding import Finding, output_of
from parallel.c_compiler import lacking_for_triton, python_headers
from parallel.hardware import choose_device, cuda_devices, torch_is_built_for_cuda
from slurm import environment

TESTED = {"torch": "2.13.0", "megatron-core": "0.16.1", "deepspeed": "0.19.8"}
OPTIONAL = {
    "transformer_engine": "Transformer Engine's layers on CUDA",
    "wandb": "log.wandb=true",
}


_FOUND = 24  # characters of the second column; a longer entry shifts the rest of its line


def doctor(run: Run, _overrides: list[str]) -> None:
    """Prints a line for each finding, good or bad.

    Raises InputError if CUDA is asked for where there is no device, RunError if it is asked for
    and something that it needs does not work.
    """
    if run.device is DeviceName.cuda and cuda_devices() == 0:
        raise InputError("device=cuda: no CUDA device here; nearest: device=cpu")
    device = choose_device(run.device)
    cuda = [*_cuda(device), _triton_compiler(device)]
    tried = {finding.what for finding in cuda}
    _show([*_machine(run), *cuda, *_packages(tried), *_compiler(), *_cluster()])
    wrong = [finding.what for finding in cuda if finding.good is False]
    if run.device is DeviceName.cuda and wrong:
        raise RunError(f"device=cuda will not work here: {listed(wrong)}; the table says why")


def _show(findings: list[Finding]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    left = max(len(finding.what) for finding in findings)
    middle = min(max(len(finding.found) for finding in findings), _FOUND)
    for finding in findings:
        mark, style = {True: ("ok", "green"), False: ("no", "red"), None: ("-", "")}[finding.good]
        line = f" {finding.what:<{left}}  {finding.found:<{middle}}"
        console.print(f"{mark:<2}", style=style or None, end="")
        beside = len(line) + len(finding.means) + 4 <= console.width
        # Longer text goes below, unbroken: a wrapped path cannot be copied.
        apart = "  " if beside else "\n" + " " * (left + 5)
        console.print(f"{line if beside else line.rstrip()}{apart}{finding.means}".rstrip())


def _machine(run: Run) -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    yield Finding("Python", platform.python_version(), sys.executable, sys.version_info >= (3, 11))
    yield Finding(
        "processor",
        f"{len(os.sched_getaffinity(0))} cores, {memory.total / 2**30:.0f} GiB",
        f"{memory.available / 2**30:.0f} GiB free",
        None,
    )
    folder = Path(run.run_dir or ".").expanduser().resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    yield Finding("disk", f"{free / 2**30:.0f} GiB free", str(folder), free > 2**30)
    chosen = choose_device(DeviceName.auto)
    yield Finding("device=auto", chosen, _backend(chosen))


def _backend(device: DeviceName) -> str:
    return "collectives through NCCL" if device is DeviceName.cuda else "through gloo, on CPU"


def _cuda(device: DeviceName) -> list[Finding]:
    """What the probe finds, where there is a device to try and a torch to try it with."""
    devices = cuda_devices()
    if not devices:
        return [Finding("CUDA", "no device", "device=cuda will not work here", None)]
    if not torch_is_built_for_cuda():
        said = "but this torch is built for CPU; nearest: make clean, make setup TORCH=cuda"
        return [Finding("CUDA", counted(devices, "device", "devices"), said, False)]
    if device is not DeviceName.cuda:
        said = "not tried; phalanx doctor device=cuda does"
        return [Finding("CUDA", counted(devices, "device", "devices"), said, None)]
    print(f"phalanx: trying CUDA, for {WITHIN_S:.0f} seconds at most", file=sys.stderr)
    return ask("cuda")


def _triton_compiler(device: DeviceName) -> Finding:
    what = "compiler for Triton"
    if lacking := lacking_for_triton():
        needed = device is DeviceName.cuda
        return Finding(what, "missing", lacking, False if needed else None)
    return Finding(what, "found", f"a C compiler and {python_headers() / 'Python.h'}")


def _packages(tried: set[str]) -> Iterator[Finding]:
    for name, tested in TESTED.items():
        version = _version(name)
        if version is None:
            yield Finding(name, "not installed", "make setup", False)
            continue
        same = version.split("+")[0] == tested
        yield Finding(name, version, "as tested" if same else f"tested with {tested}", same or None)
    for name, gives in OPTIONAL.items():
        if name in tried:
            continue
        version = _version(name)
        yield Finding(name, version or "not installed", gives, True if version else None)


def _compiler() -> Iterator[Finding]:
    missing = [name for name in ("g++", "ninja") if shutil.which(name, path=_path()) is None]
    yield Finding(
        "compiler",
        f"no {' and no '.join(missing)}" if missing else "g++ and ninja",
        "engine.offload_optimizer=true falls back to torch's AdamW"
        if missing
        else "for DeepSpeedCPUAdam, engine.offload_optimizer=true",
        None if missing else True,
    )


def _path() -> str:
    """The path searched for programs, including the folder of this Python."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _cluster() -> Iterator[Finding]:
    slurm = output_of("sinfo", "--version")
    yield Finding("SLURM", slurm or "not here", "sbatch" if slurm else "", True if slurm else None)
    if inside := os.environ.get("SLURM_JOB_ID"):
        yield Finding("SLURM job", inside, _of_job())


def _of_job() -> str:
    """The job's allocation, as far as SLURM reports it."""
    nodes, gpus = environment.nodes(os.environ), environment.gpus_per_node(os.environ)
    tasks = environment.tasks_per_node(os.environ)
    said = (
        [f"{nodes} nodes" if nodes != 1 else "1 node"] if nodes else ["nodes: SLURM does not say"]
    )
    said += [f"{gpus} GPUs on each"] if gpus else []
    said += [f"{sum(tasks)} tasks"] if tasks else []
    return ", ".join(said)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


app = hydra_app(doctor)
