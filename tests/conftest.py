from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import TINY, phalanx
from tests.pool import RankPool
from tests.trained import TrainedCases

SLURM, RANKS = "slurm", "ranks"


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What must not run beside itself stays in one worker; the longest begin first."""
    order = {SLURM: 0, RANKS: 1}
    groups = {}
    for item in items:
        group = groups[item] = _group(item)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: order.get(groups[item], 2))


def _group(item: pytest.Item) -> str:
    used = getattr(item, "fixturenames", ())
    if "cluster" in used:  # one SLURM serves the session
        return SLURM
    return RANKS if "ranks" in used else item.nodeid.partition("::")[0]


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
