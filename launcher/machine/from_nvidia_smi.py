"""The GPUs of this machine, as NVIDIA's driver lists them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections import Counter

from configs.errors import InputError
from configs.words import listed
from launcher.doctor.gpus import links_in, links_in_words
from launcher.machine.names import cluster_of
from launcher.machine.said import Said

PROGRAM = "nvidia-smi"
WITHIN_S = 60
_QUERY = "name,memory.total,pcie.link.gen.max,pcie.link.width.max"
_LANE_GB_S = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}
"""Of a PCIe lane one way, by generation (PCI-SIG): its rate less what encoding takes."""


def from_nvidia_smi() -> Said:
    """This machine's GPUs, all of them, whatever CUDA_VISIBLE_DEVICES says.

    Raises InputError if the driver does not answer, or the GPUs differ.
    """
    rows = [line.split(", ") for line in _ask(f"--query-gpu={_QUERY}", "--format=csv,noheader")]
    rows = [row for row in rows if len(row) == len(_QUERY.split(","))]
    if not rows:
        raise InputError(
            "cluster.from=nvidia-smi: it lists no GPU; nearest: cluster.from=slurm, or cluster=NAME"
        )
    kinds = Counter((name, memory) for name, memory, *_ in rows)
    if len(kinds) > 1:
        both = [f"{count} x {name}, {memory}" for (name, memory), count in kinds.most_common()]
        (name, memory), most = kinds.most_common(1)[0]
        near = cluster_of(name, _mebibytes(memory)) or "NAME"
        raise InputError(
            "cluster.from=nvidia-smi: the GPUs of this machine differ: "
            f"{listed(both, apart='; ')}; nearest: cluster={near} cluster.gpus_per_node={most}"
        )
    name, memory, generation, width = rows[0]
    links = links_in("\n".join(_ask("topo", "-m"))) if len(rows) > 1 else []
    notes = [f"its links: {links_in_words(links)}"] if links else []
    slow = bool(links) and not all(link.startswith("NV") for link in links)
    return Said(
        program=PROGRAM,
        name=socket.gethostname().split(".")[0],
        nodes=1,
        gpus_per_node=len(rows),
        gpu=name,
        memory_gib=_mebibytes(memory),
        link_gb_s=_pcie(generation, width) if slow else None,
        notes=tuple(notes),
    )


def _mebibytes(said: str) -> float | None:
    """In GiB; None for what an integrated GPU has instead, [N/A]."""
    number, _, unit = said.partition(" ")
    return round(float(number) / 1024, 1) if unit == "MiB" else None


def _pcie(generation: str, width: str) -> float | None:
    if not (generation.isdigit() and width.isdigit()) or int(generation) not in _LANE_GB_S:
        return None
    return round(_LANE_GB_S[int(generation)] * int(width), 1)


def _ask(*arguments: str) -> list[str]:
    if shutil.which(PROGRAM) is None:
        raise InputError(
            "cluster.from=nvidia-smi: there is no nvidia-smi here; nearest: cluster.from=slurm, or "
            "cluster=NAME"
        )
    try:
        done = subprocess.run(
            [PROGRAM, *arguments],
            text=True,
            errors="replace",
            capture_output=True,
            timeout=WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"cluster.from=nvidia-smi: {error}; nearest: cluster=NAME") from None
    if done.returncode:
        said = " ".join((done.stdout or done.stderr).split()) or f"exit status {done.returncode}"
        raise InputError(f"cluster.from=nvidia-smi: {said}; nearest: cluster=NAME")
    return done.stdout.splitlines()
