from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from configs.errors import InputError
from models.shape import ModelShape, to_json
from parallel.checkpoint import manifest as files
from parallel.checkpoint.manifest import TrainState

SHAPE = ModelShape(layers=2, hidden=8, heads=2, context=4, vocab=10)


def make(checkpoints: Path, step: int) -> Path:
    unfinished = files.unfinished_folder(checkpoints, step)
    unfinished.mkdir(parents=True)
    TrainState(
        step=step,
        samples=step,
        tokens=step,
        seed=1,
        corpus="",
        adam_step=step,
        scaler={},
        model=to_json(SHAPE),
    ).write(unfinished)
    files.write_manifest(unfinished, {"state.json": files.file_digest(unfinished / "state.json")})
    final = files.step_folder(checkpoints, step)
    files.publish(unfinished, final)
    return final


def test_latest_moves_and_old_ones_go(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        final = make(tmp_path, step)
        assert files.find(tmp_path) == final
    files.prune(tmp_path, keep=2)
    assert [path.name for path in files.complete_checkpoints(tmp_path)] == [
        "step_00000003",
        "step_00000010",
    ]
    files.prune(tmp_path, keep=0)
    assert len(files.complete_checkpoints(tmp_path)) == 2


def test_half_written_is_never_found(tmp_path: Path) -> None:
    make(tmp_path, 1)
    files.unfinished_folder(tmp_path, 2).mkdir()
    assert files.find(tmp_path).name == "step_00000001"
    files.clear_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_00000001"]


def test_without_latest_the_newest_is_found(tmp_path: Path) -> None:
    make(tmp_path, 1)
    newest = make(tmp_path, 2)
    (tmp_path / "latest").unlink()
    assert files.find(tmp_path) == newest


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    first = make(tmp_path, 1)
    (first / "mark").touch()
    make(tmp_path, 1)
    assert not (first / "mark").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_00000001"]


def test_damage_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path, 1)
    files.require_complete(folder)
    files.require_digests(folder, ["state.json"])
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace("1", "2", 1))
    files.require_complete(folder)
    with pytest.raises(InputError, match=r"state\.json is damaged"):
        files.require_digests(folder, ["state.json"])
    (folder / "state.json").write_text(text[:-5])
    with pytest.raises(InputError, match=rf"has {len(text) - 5} bytes, {len(text)} were written"):
        files.require_complete(folder)
    (folder / "state.json").unlink()
    with pytest.raises(InputError, match=r"state\.json is missing"):
        files.require_complete(folder)


def test_a_digest_is_that_of_what_was_in_memory(tmp_path: Path) -> None:
    pieces = [b"a", bytes(3 << 20), b"the end"]
    with (tmp_path / "file").open("wb") as file:
        hashing = files.HashingFile(file)
        for piece in pieces:
            assert hashing.write(piece) == len(piece)
        assert hashing.tell() == sum(map(len, pieces))
    assert files.file_digest(tmp_path / "file") == hashing.digest()


def test_digests_of_before_are_looked_at(tmp_path: Path) -> None:
    folder = make(tmp_path, 1)
    content = (folder / "state.json").read_bytes()
    known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files.write_manifest(folder, {"state.json": known})
    files.require_digests(folder, ["state.json"])
    (folder / "state.json").write_bytes(content.replace(b"1", b"2", 1))
    with pytest.raises(InputError, match=r"state\.json is damaged \(its sha256"):
        files.require_digests(folder, ["state.json"])


def test_every_difference_of_shape_is_told(tmp_path: Path) -> None:
    state = TrainState.read(make(tmp_path, 1))
    state.require_shape(SHAPE, tmp_path)
    other = ModelShape(layers=3, hidden=8, heads=4, context=4, vocab=10)
    with pytest.raises(InputError, match=r"layers is 2 there, 3 here; model\.heads is 2 there, 4"):
        state.require_shape(other, tmp_path)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no checkpoint"):
        files.find(tmp_path)
    with pytest.raises(InputError, match="no readable"):
        TrainState.read(tmp_path)
