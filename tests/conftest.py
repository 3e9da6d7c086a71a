from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import TINY, phalanx
from tests.pool import RankPool


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankPool]:
    """Eight gloo ranks, started when first used."""
    pool = RankPool()
    yield pool
    pool.stop()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Corpora of the tests stay out of the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PHALANX_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, own_cache: None) -> Path:
    """A run of six steps on one rank, with checkpoints of steps 2, 4 and 6. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = phalanx(
        "train", *TINY, "layout=single", "layout.micro_batch=2", "train.steps=6", run_dir=folder
    )
    assert result.status == 0, result.errors
    return folder
