from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import shares
from tests.cli import TINY, phalanx
from tests.pool import RankPool
from tests.trained import TrainedCases


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin first."""
    items.sort(key=lambda item: shares.order_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Asked by xdist, where it is used: what must not run beside itself stays in one process."""
    return shares.scheduler(config, log)


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankPool]:
    """Eight gloo ranks, started when first used."""
    pool = RankPool()
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def cases(ranks: RankPool) -> TrainedCases:
    """Every case of tests.trained, each trained once."""
    return TrainedCases(ranks)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Corpora of the tests stay out of the user's cache; its folder."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHALANX_CACHE", folder)
        yield folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, own_cache: str) -> Path:
    """A run of six steps on one rank, with checkpoints of steps 2, 4 and 6. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = phalanx(
        "train", *TINY, "layout=single", "layout.micro_batch=2", "train.steps=6", run_dir=folder
    )
    assert result.status == 0, result.errors
    return folder
