"""A rank is bound to the cores near its GPU, as Linux lists them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from parallel.runtime import numa

GPU = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x3B, pci_device_id=0)


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What the process was bound to; it may use cores 0 to 7."""
    calls: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda _pid, cores: calls.append(cores))
    return calls


def system(folder: Path, node: str, cores: str) -> Path:
    device = folder / "bus/pci/devices/0000:3b:00.0"
    device.mkdir(parents=True)
    (device / "numa_node").write_text(f"{node}\n")
    near = folder / f"devices/system/node/node{node}"
    near.mkdir(parents=True)
    (near / "cpulist").write_text(f"{cores}\n")
    return folder


def test_the_cores_of_the_gpus_node(tmp_path: Path, bound: list[set[int]]) -> None:
    assert numa.bind(GPU, system(tmp_path, "1", "4-5,7,20-23")) == {4, 5, 7}
    assert bound == [{4, 5, 7}]


@pytest.mark.parametrize(("node", "cores"), [("1", "64-127"), ("-1", "0-7")])
def test_nothing_where_no_core_is_allowed_or_known(
    tmp_path: Path, bound: list[set[int]], node: str, cores: str
) -> None:
    folder = system(tmp_path, node, cores)
    if node == "-1":  # a machine with one node
        (folder / "devices/system/node/node-1/cpulist").unlink()
    assert numa.bind(GPU, folder) == set()
    assert bound == []


def test_nothing_in_a_container_that_hides_the_bus(tmp_path: Path, bound: list[set[int]]) -> None:
    assert numa.bind(GPU, tmp_path) == set()
    assert bound == []
