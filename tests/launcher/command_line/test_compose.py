from __future__ import annotations

import pytest

from launcher.command_line.compose import merge_overrides


@pytest.mark.parametrize(
    ("stored", "given", "merged"),
    [
        ([], ["a.b=1"], ["a.b=1"]),
        (["a.b=1", "c=2"], ["a.b=3"], ["c=2", "a.b=3"]),
        (["layout=tp2", "layout.micro_batch=2"], ["layout=pp2"], ["layout=pp2"]),
        (["layout=tp2"], ["layout.micro_batch=2"], ["layout=tp2", "layout.micro_batch=2"]),
        (["+x=1"], ["x=2"], ["x=2"]),
    ],
)
def test_what_is_given_wins(stored: list[str], given: list[str], merged: list[str]) -> None:
    assert merge_overrides(stored, given) == merged
