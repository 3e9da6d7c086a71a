"""Whether a run restarts, by what it left behind."""

from __future__ import annotations

import pytest

from slurm.restart import Action, End, Start, verdict


def starts(*saved: int) -> list[Start]:
    """Starts that found these steps saved."""
    return [
        Start(job="1", restart=number, time=number, saved=step) for number, step in enumerate(saved)
    ]


@pytest.mark.parametrize(
    ("end", "action", "word"),
    [
        (End(status=0, saved=20, done=True), Action.done, "done"),
        (End(status=1, saved=10, stopped="stopped by SIGUSR1 after step 10"), "again", "SIGUSR1"),
        (End(status=1, saved=10, failure="rank 3 was ended by SIGKILL"), "again", "rank 3"),
        (
            End(status=1, saved=10, failure="layout.tensor=3: no", comes_again=True),
            "stop",
            "tensor",
        ),
        (End(status=1, saved=10, stopped="a STOP file", asked_to_end=True), "stop", "STOP"),
        (End(status=137, saved=10), "again", "137"),
    ],
)
def test_it_goes_by_what_is_left(end: End, action: str, word: str) -> None:
    judged = verdict(starts(0), end, 100, 3)
    assert judged.action == action
    assert word in judged.reason


def test_three_starts_that_save_nothing_new_are_the_last() -> None:
    end = End(status=1, saved=10)
    assert verdict(starts(0, 10), end, 100, 3).action is Action.again
    assert verdict(starts(0, 10, 10), end, 100, 3).action is Action.again
    judged = verdict(starts(0, 10, 10, 10), end, 100, 3)
    assert judged.action is Action.stop
    assert "3 starts saved nothing new" in judged.reason
    # Progress in between makes good.
    assert verdict(starts(0, 0, 10, 10), end, 100, 3).action is Action.again


def test_restarts_have_a_cap() -> None:
    end = End(status=1, saved=30)
    assert verdict(starts(0, 10), end, 2, 3).action is Action.again
    judged = verdict(starts(0, 10, 20), end, 2, 3)
    assert judged.action is Action.stop
    assert "launch.max_restarts=2" in judged.reason
