from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.slurm_cluster import Declared, NoSlurm, SlurmCluster, declared_cluster, slurm_cluster

DECLARED = 192  # nodes, as many as a published run of 175B had of eight GPUs


@contextmanager
def _spoken_to(made: AbstractContextManager[SlurmCluster]) -> Iterator[SlurmCluster]:
    """SLURM's commands mean this cluster. Skipped where there can be none."""
    try:
        with made as running, pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", running.environment["SLURM_CONF"])
            yield running
    except NoSlurm as error:
        if os.environ.get("PHALANX_NEEDS_SLURM"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """Two nodes with two fake GPUs each."""
    with _spoken_to(slurm_cluster()) as running:
        yield running


@pytest.fixture(scope="module")
def declared() -> Iterator[SlurmCluster]:
    """Nodes of eight GPUs, which only the controller knows."""
    with _spoken_to(declared_cluster(Declared("dgx", DECLARED, gpus=8))) as running:
        yield running


@pytest.fixture(scope="module")
def partitions() -> Iterator[SlurmCluster]:
    """Partitions with different GPUs, or none; no partition is the default."""
    parts = [
        Declared("cpu", 4, gpus=0),
        Declared("hopper", 3, gpus=8, kind="nvidia_h100_80gb_hbm3"),
        Declared("rack", 18, gpus=4, kind="gb200"),
        Declared("ampere", 2, gpus=4, kind="a100"),
        Declared("desk", 1, gpus=2, kind="rtx4090"),
    ]
    with _spoken_to(declared_cluster(*parts, default="NO")) as running:
        yield running


@pytest.fixture
def of_the_guide() -> Iterator[SlurmCluster]:
    """The partition of the guide's page on machines."""
    with _spoken_to(declared_cluster(Declared("gpu", 4, gpus=8, kind="h100"))) as running:
        yield running
