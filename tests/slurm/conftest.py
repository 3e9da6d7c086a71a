from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.slurm_cluster import NoSlurm, SlurmCluster, declared_cluster, slurm_cluster

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
    with _spoken_to(declared_cluster(DECLARED, gpus=8)) as running:
        yield running
