from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.slurm_cluster import NoSlurm, SlurmCluster, slurm_cluster


@pytest.fixture(scope="package")
def cluster() -> Iterator[SlurmCluster]:
    """Two nodes with two fake GPUs each."""
    try:
        with slurm_cluster() as running:
            patch = pytest.MonkeyPatch()
            patch.setenv("SLURM_CONF", running.environment["SLURM_CONF"])
            yield running
            patch.undo()
    except NoSlurm as error:
        if os.environ.get("PHALANX_NEEDS_SLURM"):
            pytest.fail(str(error))
        pytest.skip(str(error))
