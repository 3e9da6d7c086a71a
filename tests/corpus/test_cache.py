from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from configs.errors import InputError, RunError
from corpus.cache import Prepared, publish, reopen


@pytest.fixture
def folder(prepared: Prepared, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(prepared.folder, tmp_path / "copy"))


def test_a_folder_can_be_reopened(prepared: Prepared) -> None:
    assert reopen(prepared.folder) == prepared


def test_a_folder_can_be_moved(folder: Path) -> None:
    assert reopen(folder).train == folder / "train"


@pytest.mark.parametrize(
    "name", ["train.bin", "train.idx", "validation.bin", "validation.idx", "tokenizer.json"]
)
def test_a_truncated_file_is_named_with_the_cure(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    size = len(content)
    what = f"{name} has {size - 1:,} bytes where {size:,} were written: delete the folder {folder}"
    with pytest.raises(InputError, match=what):
        reopen(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "train.idx").unlink()
    with pytest.raises(InputError, match=r"train\.idx is missing: delete the folder"):
        reopen(folder)


@pytest.mark.parametrize("content", ["", "{}"])
def test_a_damaged_manifest_is_named(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json cannot be read: delete the folder"):
        reopen(folder)


def test_of_two_that_publish_at_once_one_wins_and_nothing_else_is_left(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def work(name: str) -> None:
        def fill(folder: Path) -> None:
            (folder / "content").write_text(name)
            both.wait(timeout=10)

        assert publish(tmp_path, "target", fill) == tmp_path / "target"

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target" / "content").read_text() in ("one", "two")


def test_an_interrupted_filling_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path, "target", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_failure_of_the_run(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"preparing .*target failed: .*No space left"):
        publish(tmp_path, "target", fill)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^corpus\.cache: cannot write in .*file/cache"):
        publish(tmp_path / "file" / "cache", "target", lambda folder: None)
