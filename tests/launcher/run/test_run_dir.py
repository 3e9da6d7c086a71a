"""A checkpoint of another model is refused with the one that it is of."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import InputError
from configs.load import save
from launcher.run.resolve import resolve
from launcher.run.run_dir import RunFolder, checkpoint_to_load
from models.shape import ModelShape
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState
from tests.runs import run_of


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a run that has a checkpoint, as far as its state."""
    run, folder = run_of("model=llama_nano"), RunFolder(tmp_path / "mine")
    checkpoint = manifest.step_folder(folder.checkpoints, 4)
    state = TrainState.before_training(ModelShape.of(run.model), seed=1)
    monkeypatch.setattr(manifest, "find", lambda path: checkpoint)
    monkeypatch.setattr(manifest, "require_complete", lambda path: None)
    monkeypatch.setattr(TrainState, "read", lambda path: state)
    checkpoint.mkdir(parents=True)
    save(run, folder.config)
    return folder.path


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ("", "model=llama_nano"),
        (
            "model=llama_nano model.layers=2 model.rotary.base=5.0",
            "model.layers=4 model.rotary.base=10000.0",
        ),
    ],
)
def test_another_model_is_refused_with_the_one_it_is(
    llama: Path, tmp_path: Path, words: str, nearest: str
) -> None:
    plan = resolve(run_of(f"{words} layout=single device=cpu checkpoint={llama}"))
    with pytest.raises(InputError, match="is of another model") as refused:
        checkpoint_to_load(plan, RunFolder(tmp_path / "next"))
    assert str(refused.value).endswith(f"; nearest: {nearest}")
    again = resolve(run_of(f"{nearest} model=llama_nano layout=single checkpoint={llama}"))
    assert checkpoint_to_load(again, RunFolder(tmp_path / "next")) is not None
