"""The kit's hooks and fixtures: each check is begun, timed, judged and written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from configs.schema import DeviceName
from tests.gpu.kit import BUDGETS_S, Check, Kit
from tests.pool import RankPool

if TYPE_CHECKING:
    from tests.gpu.machine import Machine

KIT = pytest.StashKey[Kit]()
POOL_TIMEOUT_S = 180  # the first job imports everything and compiles kernels


def group_of(item: pytest.Item) -> str:
    return item.path.stem.removeprefix("test_")


def name_of(item: pytest.Item) -> str:
    """As test_it_is[this one] is named: "it is: this one"."""
    name, _, case = item.name.partition("[")
    words = name.removeprefix("test_").replace("_", " ")
    return f"{words}: {case.removesuffix(']')}" if case else words


def is_check(item: pytest.Item) -> bool:
    return item.get_closest_marker("gpu") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order of the budgets: what one GPU can tell comes first."""
    order = list(BUDGETS_S)
    items.sort(key=lambda item: order.index(group_of(item)) if is_check(item) else -1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """All checks are on the list before the first runs: a crash hides none."""
    checks = [item for item in session.items if is_check(item)]
    if not checks or session.config.option.collectonly:
        return
    rehearse = session.config.option.rehearse
    path = session.config.option.kit_out or Path(
        "gpu-kit-rehearsal.json" if rehearse else "gpu-kit.json"
    )
    kit = Kit(path.absolute(), DeviceName.cpu if rehearse else DeviceName.cuda)
    for item in checks:
        kit.checks[item.nodeid] = Check(group_of(item), name_of(item))
    kit.write()
    session.config.stash[KIT] = kit


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a check whose group has no time left."""
    if not is_check(item):
        return
    kit = item.config.stash[KIT]
    check = kit.checks[item.nodeid]
    check.status = "running"
    kit.write()
    budget = BUDGETS_S[check.group]
    if not item.config.option.rehearse and kit.spent_s(check.group) > budget:
        pytest.skip(f"the {budget} s of {check.group} were spent")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """After each phase of a check: its seconds, its status and what went wrong."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if is_check(item):
        kit = item.config.stash[KIT]
        check = kit.checks[item.nodeid]
        check.seconds = round(check.seconds + call.duration, 2)
        if report.skipped:
            check.status, check.reason = "skipped", _why_skipped(report)
        elif report.failed:
            check.status, check.reason = "failed", str(call.excinfo and call.excinfo.value)
        elif report.when == "call":
            check.status = "passed"
        kit.write()
    return report  # type: ignore[return-value]


def _why_skipped(report: pytest.TestReport) -> str:
    words = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(words).removeprefix("Skipped: ")


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """What this test writes its numbers to."""
    return request.config.stash[KIT].checks[request.node.nodeid]


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Machine:
    """What the checks run on: this machine's GPUs, or four ranks of its CPU."""
    from tests.gpu.machine import Machine

    return Machine.here(rehearse=request.config.option.rehearse)


@pytest.fixture(scope="module")
def pool(machine: Machine) -> Iterator[RankPool]:
    """Ranks that are gone after the file: commands of the next have the GPUs for themselves."""
    ranks = RankPool(machine.ranks, machine.device, timeout_s=POOL_TIMEOUT_S)
    yield ranks
    ranks.stop()


@pytest.fixture(scope="module")
def one_rank(machine: Machine) -> Iterator[RankPool]:
    """The same, of one rank."""
    ranks = RankPool(1, machine.device, timeout_s=POOL_TIMEOUT_S)
    yield ranks
    ranks.stop()
