"""`phalanx plan cluster.from=nvidia-smi`, with a program on PATH that says what a driver said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.machine.names import cluster_of
from tests.cli import ROOT, PhalanxResult, phalanx
from tests.house.test_documents import commands, words_of

TOPOLOGIES = Path(__file__).parents[1] / "doctor" / "topologies"
PLAN = ("plan", "model=gpt3_125m", "precision=bf16", "layout=dp2", "layout.data=null")
FROM = "cluster.from=nvidia-smi"

A100 = "NVIDIA A100-SXM4-80GB, 81920 MiB, 4, 16"
A100_40 = "NVIDIA A100-SXM4-40GB, 40960 MiB, 4, 16"
A100_PCIE = "NVIDIA A100 80GB PCIe, 81920 MiB, 4, 16"
H100 = "NVIDIA H100 80GB HBM3, 81559 MiB, 5, 16"
L40S = "NVIDIA L40S, 46068 MiB, 4, 16"
V100_16 = "Tesla V100-SXM2-16GB, 16160 MiB, 3, 16"
GB10 = "NVIDIA GB10, [N/A], 1, 1"


class Driver:
    """An nvidia-smi of the test's own, in a folder that is first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "nvidia-smi"

    def lists(self, *gpus: str, topology: str = "dgx_a100.txt") -> None:
        listing = self.program.with_name("listing")
        listing.write_text("".join(f"{gpu}\n" for gpu in gpus))
        self.runs(
            f'case "$1" in --query-gpu=*) cat {listing} ;; '
            f"topo) cat {TOPOLOGIES / topology} ;; *) exit 9 ;; esac"
        )

    def runs(self, script: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        self.program.chmod(0o755)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return Driver(folder)


def plan(*more: str) -> PhalanxResult:
    return phalanx(*PLAN, "train.global_batch=1440", "optimizer.ramp_tokens=0", *more)


def cluster(*more: str) -> Any:
    said = plan(FROM, "format=json", *more)
    assert said.status == 0, said.errors
    return json.loads(said.output)["cluster"]


def test_a_dgx_is_found_with_its_figures_and_links(driver: Driver) -> None:
    driver.lists(*[A100] * 8)
    said = plan(FROM)
    assert said.status == 0, said.errors
    assert "plan for 8 ranks on cluster=" in said.output
    for line in (
        "gpus_per_node: 8 # as nvidia-smi says",
        "gpu: A100-SXM4-80GB # nvidia-smi says NVIDIA A100-SXM4-80GB",
        "peak_tflops: {bf16: 312.0, fp16: 312.0, float32: 19.5} # of cluster=dgx_a100",
        "memory_gib: 80.0 # as nvidia-smi says",
        "link_gb_s: 300 # of cluster=dgx_a100",
        "its links: NVLink (NV12) between all pairs",
    ):
        assert line in said.output.splitlines()
    assert "taken from cluster=dgx_a100: network_gb_s, dollars_per_hour, node_watts" in said.output


def test_the_command_of_the_guide_searches_for_this_machine(driver: Driver) -> None:
    driver.lists(*[H100] * 8)
    page = (ROOT / "docs" / "guide" / "clusters.md").read_text()
    (line,) = [line for line in commands(page) if FROM in line]
    _, words = words_of(line)
    said = phalanx("plan", *words)
    assert said.status == 0, said.errors
    assert "# the fastest, as a file of configs/layout" in said.output


def test_gpus_without_nvlink_have_the_bandwidth_of_pcie(driver: Driver) -> None:
    driver.lists(*[L40S] * 8, topology="eight_pcie.txt")
    found = cluster()
    assert found["settings"]["link_gb_s"] == 31.5
    assert found["sources"]["link_gb_s"] == "as nvidia-smi says"
    assert "its links: PCIe (NODE, PHB, SYS) between all pairs" in found["notes"]


def test_a_board_with_other_links_takes_the_figures_of_a_cluster_that_is_named(
    driver: Driver,
) -> None:
    driver.lists(A100_PCIE, A100_PCIE, topology="two_a100_pcie.txt")
    refused = plan(FROM)
    assert refused.errors == (
        "phalanx: cluster.from=nvidia-smi: NVIDIA A100 80GB PCIe of 80 GiB may be one of several; "
        "nearest, with the figures of that machine: cluster=dgx_a100 cluster.from=nvidia-smi or "
        "cluster=dgx_a100_40 cluster.from=nvidia-smi\n"
    )
    found = cluster("cluster=dgx_a100")
    assert found["settings"]["link_gb_s"] == 31.5
    assert found["settings"]["node_watts"] is None
    assert found["notes"][-1] == (
        "NVIDIA A100 80GB PCIe may do less than A100-SXM4-80GB, whose figures these are"
    )


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        ([], "it lists no GPU; nearest: cluster.from=slurm, or cluster=NAME"),
        (
            ["NVIDIA GeForce RTX 4090, 24564 MiB, 4, 16"],
            "the planner does not know NVIDIA GeForce RTX 4090 of 24 GiB; nearest: "
            "cluster=single_rtx8000 (cluster.gpu=RTX-8000-48GB)",
        ),
        (
            [V100_16],
            "Tesla V100-SXM2-16GB of 15.8 GiB is none of the planner's GPUs; nearest, with the "
            "figures of that machine: cluster=dgx_v100 cluster.from=nvidia-smi",
        ),
        ([GB10], "the planner does not know NVIDIA GB10; nearest: cluster="),
        (
            [A100, A100, A100_40],
            "the GPUs of this machine differ: 2 x NVIDIA A100-SXM4-80GB, 81920 MiB; 1 x NVIDIA "
            "A100-SXM4-40GB, 40960 MiB; nearest: cluster=dgx_a100 cluster.gpus_per_node=2",
        ),
    ],
)
def test_what_it_cannot_be_is_said_in_a_line(driver: Driver, gpus: list[str], told: str) -> None:
    driver.lists(*gpus)
    refused = plan(FROM)
    assert refused.status == 2
    assert refused.errors.startswith(f"phalanx: cluster.from=nvidia-smi: {told}")
    assert refused.errors.count("\n") == 1


def test_a_driver_that_fails_is_quoted(driver: Driver) -> None:
    driver.runs("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    assert plan(FROM).errors == (
        "phalanx: cluster.from=nvidia-smi: Failed to initialize NVML: Driver/library version "
        "mismatch; nearest: cluster=NAME\n"
    )


def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert plan(FROM).errors == (
        "phalanx: cluster.from=nvidia-smi: there is no nvidia-smi here; nearest: "
        "cluster.from=slurm, or cluster=NAME\n"
    )


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            ("cluster.from=nvidia_smy",),
            "takes slurm or nvidia-smi; nearest: cluster.from=nvidia-smi",
        ),
        (
            (FROM, "cluster=dgx_h100"),
            "it has NVIDIA A100-SXM4-80GB, not H100-SXM5-80GB; nearest: cluster=dgx_a100 "
            "cluster.from=nvidia-smi",
        ),
    ],
)
def test_what_is_typed_has_to_fit(driver: Driver, typed: tuple[str, ...], told: str) -> None:
    driver.lists(*[A100] * 8)
    refused = plan(*typed)
    assert refused.errors.endswith(f": {told}\n")
    assert refused.errors.count("\n") == 1


def test_a_gpu_that_is_typed_has_its_own_figures(driver: Driver) -> None:
    driver.lists(*[H100] * 8)
    found = cluster("cluster.gpu=H100-SXM5-80GB", "cluster.dollars_per_hour=2.5")
    assert found["settings"]["memory_gb_s"] == 3350
    assert found["sources"]["gpu"] == "as typed"
    assert found["settings"]["dollars_per_hour"] == 2.5


def test_training_asks_nobody() -> None:
    refused = phalanx("train", FROM)
    assert (
        "cluster.from=nvidia-smi: only plan asks the machine what it has, and prints it as a file; "
        "nearest: cluster.from=null" in refused.errors
    )


@pytest.mark.parametrize(
    ("gpu", "gib", "cluster"),
    [
        ("NVIDIA H200", 140.4, "dgx_h200"),
        ("NVIDIA H20", 95.6, "hgx_h20"),
        ("NVIDIA H20-3e", 140.4, None),
        ("NVIDIA B200", 179.1, "dgx_b200"),
        ("NVIDIA B300 SXM6 AC", 268.6, "dgx_b300"),
        ("NVIDIA GB200", 185.0, "gb200_nvl72"),
        ("NVIDIA A800-SXM4-80GB", 80.0, "a800"),
        ("NVIDIA A100-SXM4-40GB", 40.0, "dgx_a100_40"),
        ("NVIDIA H100 80GB HBM3", 79.6, "dgx_h100"),
        ("NVIDIA H100 NVL", 93.6, None),
        ("Tesla V100-SXM2-32GB", 32.0, "dgx_v100"),
        ("Quadro RTX 8000", 45.0, "single_rtx8000"),
        ("nvidia_a100-sxm4-40gb", None, "dgx_a100_40"),
        ("mi300x", None, "mi300x"),
        ("a100", None, None),
    ],
)
def test_the_names_of_drivers_and_gres(gpu: str, gib: float | None, cluster: str | None) -> None:
    assert cluster_of(gpu, gib) == cluster
