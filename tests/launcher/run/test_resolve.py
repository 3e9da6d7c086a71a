from __future__ import annotations

import pytest

from configs.errors import InputError
from configs.schema import DeviceName, LaunchName
from launcher.run.resolve import resolve
from tests.runs import run_of

CPU = "device=cpu"


def test_data_is_one_where_ranks_are_ours_to_start() -> None:
    plan = resolve(run_of(f"layout=tp2_pp2 {CPU}"), {})
    assert str(plan.layout) == "2x2"
    assert plan.run.layout.data == 1
    assert plan.device is DeviceName.cpu


def test_data_fills_the_ranks_that_torchrun_started() -> None:
    plan = resolve(run_of(f"layout=tp2_pp2 {CPU}"), {"RANK": "3", "WORLD_SIZE": "8"})
    assert str(plan.layout) == "2x2x1x2"
    assert plan.run.launch.name is LaunchName.torchrun


def test_too_few_ranks() -> None:
    with pytest.raises(InputError, match=r"tensor 2 x pipeline 2 = 4 ranks, of 2 at hand"):
        resolve(run_of(f"layout=tp2_pp2 {CPU}"), {"RANK": "0", "WORLD_SIZE": "2"})


def test_a_model_that_outgrows_this_machine() -> None:
    with pytest.raises(InputError, match=r"need at least 4,\d\d\d GiB, this machine has") as told:
        resolve(run_of(f"model=gpt3_175b layout=gpt3_175b layout.zero=0 {CPU}"), {})
    assert "128 ranks" in str(told.value)


def test_faults_of_all_kinds_come_together() -> None:
    with pytest.raises(InputError) as told:
        resolve(run_of(f"layout.tensor=3 log.wandb=true model.layers=5 {CPU}"), {})
    lines = str(told.value).splitlines()
    assert lines[0].endswith(f"for {len(lines) - 1} reasons:")
    for setting in ("layout.tensor=3", "layout.pipeline=2"):
        assert any(line.strip().startswith(setting) for line in lines)


DGX = "cluster=dgx_a100 layout.tensor=8 layout.pipeline=1 model.heads=8 model.hidden=128"


@pytest.mark.parametrize("launch", ["slurm", "torchrun"])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_the_cluster_decides_the_device_where_ranks_start_elsewhere(
    launch: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = resolve(run_of(f"{DGX} launch={launch} device={device}"), {})
    assert plan.device is DeviceName.cuda
    assert plan.layout.world_size == 8


def test_a_node_that_starts_its_ranks_here_needs_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="device=cuda: no CUDA device here"):
        resolve(run_of(f"{DGX} launch=torchrun launch.node=0 device=cuda"), {})
