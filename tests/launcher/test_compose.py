from __future__ import annotations

from pathlib import Path

import pytest

from launcher.compose import merge_overrides, store_overrides, stored_overrides


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


def test_what_holds_once_is_not_stored(tmp_path: Path) -> None:
    own = tmp_path / "checkpoints" / "step_00000002"
    store_overrides(
        [
            "train.steps=9",
            "train.stop_after=3",
            "debug=true",
            f"run_dir={tmp_path}",
            "profile.start=2",
            f"checkpoint={own}",
        ],
        tmp_path,
    )
    assert stored_overrides(str(tmp_path)) == ["train.steps=9"]
    store_overrides(["checkpoint=/elsewhere/step_00000002"], tmp_path)
    assert stored_overrides(str(tmp_path)) == ["checkpoint=/elsewhere/step_00000002"]


def test_a_new_folder_has_none(tmp_path: Path) -> None:
    assert stored_overrides(None) == []
    assert stored_overrides(str(tmp_path / "new")) == []
