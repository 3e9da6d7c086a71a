"""What a plan can be made for, and what a user is told otherwise."""

from __future__ import annotations

import pytest

from configs.errors import InputError
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import clusters_of_gpus, machine_of
from tests.runs import run_of


def test_every_shipped_cluster_can_be_planned_for() -> None:
    clusters = clusters_of_gpus()
    assert len(clusters) == 7
    for gpu, name in clusters.items():
        machine = machine_of(run_of(f"cluster={name}").cluster)
        assert machine.gpu == gpu
        assert calibrated("phalanx", gpu).basis


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
