"""What a plan can be made for, and what a user is told otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.errors import InputError
from parallel.planner.inputs.calibration import calibrated, family
from parallel.planner.inputs.cluster import FIGURES, cluster_names, clusters_of_gpus, machine_of
from tests.cli import ROOT
from tests.runs import run_of


def test_every_shipped_cluster_can_be_planned_for() -> None:
    assert len(clusters_of_gpus()) == 13
    for name in cluster_names():
        machine = machine_of(run_of(f"cluster={name}").cluster)
        assert calibrated("phalanx", machine.gpu).basis


def test_a_gpu_is_looked_for_in_its_makers_machine_first() -> None:
    assert clusters_of_gpus()["H100-SXM5-80GB"] == "dgx_h100"
    assert clusters_of_gpus()["GB200-186GB"] == "gb200_nvl72"


@pytest.mark.parametrize(
    ("gpu", "of"),
    [
        ("H200-SXM5-141GB", "H200"),
        ("H20-SXM5-96GB", "H20"),
        ("GB200-186GB", "GB200"),
        ("B300-SXM6-270GB", "B300"),
        ("A800-SXM4-80GB", "A800"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("GH200-480GB", None),
        ("A10-24GB", None),
    ],
)
def test_a_gpu_is_no_other_whose_name_is_in_its_own(gpu: str, of: str | None) -> None:
    assert family(gpu) == of


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        ("A800-SXM4-80GB", "192 published runs of 8 programs on A100, which stands for A800"),
        ("H20-SXM5-96GB", "59 published runs of 4 programs on H100, which stands for H20"),
        ("B300-SXM6-270GB", "2 published runs of megatron-core on GB200, which stands for B300"),
        ("L40S-48GB", "no run on L40S is among the published: the mean of all GPUs"),
        ("MI300X-OAM-192GB", "no run on MI300X is among the published: the mean of all NVIDIA"),
    ],
)
def test_the_basis_of_a_gpu_without_runs_says_whose_they_are(gpu: str, told: str) -> None:
    assert calibrated("phalanx", gpu).basis.startswith(told)


def test_the_guide_has_every_machine_with_its_figures() -> None:
    page = (ROOT / "docs" / "guide" / "clusters.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    table = {row[0].strip("`"): row[2:] for row in rows if row and row[0].startswith("`")}
    for name in cluster_names():
        of = run_of(f"cluster={name}").cluster
        peak = of.peak_tflops.get("bf16", of.peak_tflops["fp16"])
        rack = f" in {of.link_gpus}" if of.link_gpus else ""
        assert table.pop(name, []) == [
            of.gpu,
            str(of.gpus_per_node),
            f"{of.memory_gib:g}",
            f"{peak:,g}",
            f"{of.link_gb_s:g}{rack}",
            f"{of.network_gb_s:g}",
            f"{of.node_watts:,.0f}" if of.node_watts else "",
        ]
    assert table.keys() == {"cluster="}


@pytest.mark.parametrize("figure", [*FIGURES, "peak_tflops"])
def test_a_missing_figure_is_named_with_that_of_the_nearest(figure: str) -> None:
    cluster = run_of("cluster=dgx_h100").cluster
    value: Any = {} if figure == "peak_tflops" else None
    without = replace(cluster, **{figure: value})
    with pytest.raises(InputError) as error:
        machine_of(without)
    before, _, after = str(error.value).partition(": a plan needs this figure")
    assert before == f"cluster.{figure}={'{}' if figure == 'peak_tflops' else 'null'}"
    assert f"nearest: cluster.{figure}=" in after
    assert after.endswith("(of cluster=dgx_h100)")


def test_all_missing_figures_are_told_at_once() -> None:
    overrides = "cluster=dgx_a100 cluster.link_gb_s=null cluster.network_gb_s=null"
    with pytest.raises(InputError) as error:
        machine_of(run_of(overrides).cluster)
    assert str(error.value) == (
        "cluster.link_gb_s=null cluster.network_gb_s=null: a plan needs these figures; nearest: "
        "cluster.link_gb_s=300 cluster.network_gb_s=25 (of cluster=dgx_a100)"
    )


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ("cluster=dgx_a100 cluster.gpu=X900", "cluster.gpu=X900"),
        ("cluster=dgx_a100 cluster.gpu=H100-SXM5-80GB", "cluster=dgx_h100"),
        ("cluster=dgx_a100 cluster.memory_gb_s=null", "cluster.memory_gb_s=null"),
        ("cluster=dgx_a100 cluster.software=megatrn-core", "cluster.software=megatron-core"),
        ("cluster=dgx_v100 cluster.software=nemo", "cluster.software=phalanx"),
        ("cluster=local", "cluster=dgx_a100"),
    ],
)
def test_what_is_not_known_is_told_with_the_nearest(overrides: str, told: str) -> None:
    with pytest.raises(InputError, match="nearest") as error:
        machine_of(run_of(overrides).cluster)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
