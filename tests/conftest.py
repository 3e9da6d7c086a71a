from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from configs.schema import DeviceName
from parallel.hardware import choose_device
from tests import shares
from tests.cli import TINY, phalanx
from tests.pool import RankPool

if TYPE_CHECKING:
    from tests.trained import TrainedCases


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of the GPU kit, tests/gpu."""
    group = parser.getgroup("GPU kit")
    group.addoption(
        "--rehearse", action="store_true", help="with -m gpu: the kit on a CPU, at tiny sizes"
    )
    group.addoption(
        "--kit-out", type=Path, help="with -m gpu: what it found, as JSON, with a page beside it"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Hides CUDA devices from all tests, and the processes they start, but those of `-m gpu`.

    `device=auto` would otherwise be CUDA on a machine that has it, where the suite is about gloo.
    Nothing has used CUDA yet, and no conftest imports torch.
    """
    asked = re.search(r"(?<!not )\bgpu\b", config.option.markexpr) is not None
    if not asked or config.option.rehearse:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif choose_device(DeviceName.auto) is not DeviceName.cuda:
        raise pytest.UsageError(
            "-m gpu: no CUDA device that this torch can use; nearest: --rehearse"
        )


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
    from tests.trained import TrainedCases

    return TrainedCases(ranks)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Corpora and calibrations of the tests stay out of the user's folders; that of corpora."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHALANX_CACHE", folder)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
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
