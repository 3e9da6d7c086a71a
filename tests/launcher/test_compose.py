from __future__ import annotations

import pytest

from configs.schema import Run
from launcher.compose import merge_overrides, settings


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


def test_every_setting_is_known_by_its_full_name() -> None:
    known = settings(Run)
    assert {"model", "model.layers", "model.recipe.tokens", "layout.tensor", "debug"} <= set(known)
