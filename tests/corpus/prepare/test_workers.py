from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from configs.errors import InputError, RunError
from corpus.prepare.workers import advance, workers


def double(number: int) -> int:
    advance(number)
    return 2 * number


def refuse(number: int) -> int:
    raise InputError(f"number={number} cannot be")


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("count", [1, 2])
def test_all_is_done_and_told(count: int) -> None:
    told: list[int] = []
    with workers(count, told.append) as pool:
        assert sorted(pool.map(double, [1, 2, 3])) == [2, 4, 6]
        assert list(pool.map(double, [])) == []
        assert list(pool.map(double, [10])) == [20]
    assert told == sorted(told)
    assert told[-1] == 16


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_the_work_is_ours(count: int) -> None:
    with (
        workers(count, lambda done: None) as pool,
        pytest.raises(InputError, match=r"number=1 cannot be|number=2 cannot be"),
    ):
        list(pool.map(refuse, [1, 2]))


def test_a_process_that_dies_is_told() -> None:
    with (
        workers(2, lambda done: None) as pool,
        pytest.raises(RunError, match=r"died, as when memory runs out; .* goes on from there"),
    ):
        list(pool.map(die, [1, 2]))


def test_a_process_whose_parent_is_gone_already_ends_too() -> None:
    code = (
        "from corpus.prepare.workers import die_with_parent; import sys; "
        "die_with_parent(int(sys.argv[1])); print()"
    )
    parents = {"ours": os.getpid(), "another": os.getppid()}
    ended = {
        name: subprocess.run([sys.executable, "-c", code, str(parent)], capture_output=True)
        for name, parent in parents.items()
    }
    assert ended["ours"].returncode == 0
    assert ended["another"].returncode == 1
    assert not ended["another"].stdout
