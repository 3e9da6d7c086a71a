"""SLURM accepts the script of every model on every shipped cluster, declared in its shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import InputError
from launcher.run.resolve import resolve
from launcher.run.run_dir import RunFolder
from launcher.start.slurm import job_of
from slurm.commands import check
from slurm.script import render
from tests.runs import run_of
from tests.slurm_cluster import SlurmCluster

# Model: its layout and its nodes of eight GPUs.
SIZES = {
    "gpt3_125m": ("layout=single layout.data=null", 1),
    "gpt3_350m": ("layout=single layout.data=null", 1),
    "gpt3_760m": ("layout=single layout.data=null", 2),
    "gpt3_1.3b": ("layout=gpt3_1.3b", 4),
    "gpt3_2.7b": ("layout=gpt3_2.7b", 8),
    "gpt3_6.7b": ("layout=gpt3_6.7b", 16),
    "gpt3_13b": ("layout=gpt3_13b", 32),
    "gpt3_175b": ("layout=gpt3_175b train.global_batch=1536", 192),
}
CLUSTERS = ("dgx_v100", "dgx_a100_40", "dgx_a100", "dgx_h100", "dgx_h200", "dgx_b200")
SINGLE = ("single_v100", "single_rtx8000")


def accepted(overrides: str, folder: Path) -> str:
    plan = resolve(run_of(f"{overrides} launch=slurm launch.time_limit=1-00"), {})
    run = RunFolder(folder)
    run.script.write_text(render(job_of(plan, run)), encoding="utf-8")
    return check(run.script)


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("model", SIZES)
def test_accepted(declared: SlurmCluster, model: str, cluster: str, tmp_path: Path) -> None:
    layout, nodes = SIZES[model]
    asked = f"model={model} {layout} cluster={cluster} cluster.nodes={nodes} precision=fp16"
    said = accepted(asked + " optimizer.ramp_tokens=0", tmp_path)
    assert "to start at" in said
    names = "dgx1" if nodes == 1 else f"dgx[1-{nodes}]"
    assert f"on nodes {names} " in said


@pytest.mark.parametrize("cluster", SINGLE)
def test_one_gpu(declared: SlurmCluster, cluster: str, tmp_path: Path) -> None:
    asked = f"model=gpt3_125m layout=single cluster={cluster} precision=fp16"
    assert "on nodes dgx1 " in accepted(f"{asked} optimizer.ramp_tokens=0", tmp_path)


def test_what_the_cluster_does_not_have_is_told(declared: SlurmCluster, tmp_path: Path) -> None:
    asked = "model=gpt3_125m layout=dp2 layout.data=8 cluster=dgx_a100 precision=bf16"
    with pytest.raises(InputError, match=r"launch=slurm: .*invalid partition"):
        accepted(f"{asked} optimizer.ramp_tokens=0 launch.partition=nowhere", tmp_path)
