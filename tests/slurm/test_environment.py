"""What SLURM says of a job, in every form that it says it."""

from __future__ import annotations

import pytest

from slurm.environment import expanded, gpus_per_node, nodes, tasks_per_node


@pytest.fixture(autouse=True)
def without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"SLURM_JOB_NUM_NODES": "2"}, 2),
        ({"SLURM_NNODES": "3"}, 3),
        ({"SLURM_JOB_NODELIST": "node[1-3,7],login"}, 5),
        ({"SLURM_NODELIST": "gpu01"}, 1),
        ({"SLURM_TASKS_PER_NODE": "4(x2),3"}, 3),
        ({}, None),
    ],
)
def test_nodes(environment: dict[str, str], count: int | None) -> None:
    assert nodes(environment) == count


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"SLURM_GPUS_PER_NODE": "4"}, 4),
        ({"SLURM_GPUS_PER_NODE": "a100:4"}, 4),
        ({"SLURM_GPUS_PER_NODE": "gpu:a100:4"}, 4),
        ({"SLURM_GPUS_PER_NODE": "a100:2,h100:6"}, 8),
        ({"SLURM_GPUS_PER_NODE": "gpu:a100:8(S:0-1)"}, 8),
        ({"SLURM_GPUS_PER_NODE": "a100"}, 1),
        ({"SLURM_GPUS_ON_NODE": "8"}, 8),
        ({}, None),
    ],
)
def test_gpus(environment: dict[str, str], count: int | None) -> None:
    assert gpus_per_node(environment) == count


@pytest.mark.parametrize(
    ("said", "counts"), [("4", [4]), ("4(x2)", [4, 4]), ("2,1(x3)", [2, 1, 1, 1]), ("?", [])]
)
def test_tasks(said: str, counts: list[int]) -> None:
    assert tasks_per_node({"SLURM_TASKS_PER_NODE": said}) == counts


def test_names_of_nodes() -> None:
    assert expanded("n[08-10]") == ["n08", "n09", "n10"]
    assert expanded("r[1-2]n[1,3]") == ["r1n1", "r1n3", "r2n1", "r2n3"]
    assert expanded("a,b-1") == ["a", "b-1"]
