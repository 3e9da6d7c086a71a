from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError, RunError
from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig
from corpus.prepare.inventory import cache_root
from corpus.prepare.prepare import prepare
from corpus.store.prepared import (
    Prepared,
    alone,
    clear_scratch,
    find,
    publish,
    remember,
    reopen,
    writable,
)
from tests.runs import run_of


@pytest.fixture
def folder(prepared: Prepared, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(prepared.folder, tmp_path / "copy"))


def test_a_folder_can_be_reopened(prepared: Prepared) -> None:
    assert reopen(prepared.folder) == prepared


def test_a_folder_can_be_moved(folder: Path) -> None:
    assert reopen(folder).tokens("text", "train") == folder / "text.train"


@pytest.mark.parametrize(
    "name",
    [
        *(f"text.{part}.{kind}" for part in ("train", "validation") for kind in ("bin", "idx")),
        "tokenizer.json",
    ],
)
def test_a_truncated_file_is_named_with_the_cure(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    size = len(content)
    what = f"{name} has {size - 1:,} bytes where {size:,} were written: delete the folder {folder}"
    with pytest.raises(InputError, match=what):
        reopen(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "text.train.idx").unlink()
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
            both.wait(timeout=60)

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


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".target.1234").mkdir()
    (tmp_path / ".other.1234").mkdir()
    clear_scratch(tmp_path, "target")
    assert [path.name for path in tmp_path.iterdir()] == [".other.1234"]


def test_a_key_is_remembered_while_its_folder_is_there(tmp_path: Path) -> None:
    assert find(tmp_path, "key") is None
    (tmp_path / "corpus").mkdir()
    remember(tmp_path, "key", tmp_path / "corpus")
    assert find(tmp_path, "key") == tmp_path / "corpus"
    (tmp_path / "corpus").rmdir()
    assert find(tmp_path, "key") is None


@pytest.mark.parametrize("note", ["", "gone"])
def test_a_note_that_says_nothing_is_no_note(tmp_path: Path, note: str) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "key").write_text(note)
    assert find(tmp_path, "key") is None


@pytest.mark.parametrize("name", ["../other", "/tmp", "..", "."])
def test_a_note_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    root = tmp_path / "cache"
    for folder in (root / "known", tmp_path / "other"):
        folder.mkdir(parents=True)
    (root / "known" / "key").write_text(name)
    assert find(root, "key") is None


@pytest.mark.parametrize("name", ["../text", "/tmp/text", ""])
def test_a_manifest_names_nothing_elsewhere(folder: Path, name: str) -> None:
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "files": {name: 1}}))
    with pytest.raises(InputError, match=rf"manifest\.json names {name!r}: delete the folder"):
        reopen(folder)
    sources = [{**content["sources"][0], "name": name}]
    manifest.write_text(json.dumps({**content, "sources": sources}))
    with pytest.raises(InputError, match=rf"manifest\.json names {name!r}: delete the folder"):
        reopen(folder)


@pytest.mark.parametrize(
    ("which", "mode", "refused"),
    [
        ("cache", 0o777, True),
        ("cache", 0o1777, True),  # anybody may be there first
        ("above", 0o777, True),
        ("above", 0o1777, False),
        ("cache", 0o775, False),
        ("cache", 0o2775, False),
        ("cache", 0o700, False),
    ],
)
def test_a_cache_that_everybody_may_write_to_is_refused(
    tmp_path: Path, which: str, mode: int, refused: bool
) -> None:
    folders = {"above": tmp_path / "above", "cache": tmp_path / "above" / "cache"}
    for folder in folders.values():
        folder.mkdir()
    folders[which].chmod(mode)
    link = tmp_path / "link"
    link.symlink_to(folders["cache"])
    for root in (folders["cache"], link, folders["cache"] / "not there yet"):
        wrong = refused and not (mode == 0o1777 and root.name == "not there yet")
        with pytest.raises(InputError) if wrong else nullcontext() as told:
            cache_root(replace(run_of().corpus, cache=str(root)))
        if told is not None:
            said = str(told.value)
            assert said.startswith(f"corpus.cache={root}: others may write to ")
            assert f"(mode {mode:o})" in said
            assert "\n" not in said


def test_a_folder_of_a_cache_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    remember(tmp_path, "key", tmp_path / "corpus")
    for folder in (tmp_path / "known", tmp_path / "corpus"):
        folder.chmod(0o777)
        with pytest.raises(InputError, match=f"others may write to {folder}"):
            find(tmp_path, "key")
        folder.chmod(0o755)


def test_what_is_made_is_not_for_everybody_to_write(
    corpus: CorpusConfig, model: ModelConfig
) -> None:
    before = os.umask(0)
    try:
        prepared = prepare(corpus, model)
    finally:
        os.umask(before)
    for folder in (prepared.folder, prepared.folder.parent, prepared.folder.parent / "known"):
        assert folder.stat().st_mode & 0o7777 == 0o775
    assert prepare(corpus, model) == prepared


def test_one_process_at_a_time(tmp_path: Path) -> None:
    waiting = threading.Event()
    order: list[str] = []

    def second() -> None:
        with alone(tmp_path / "lock", waiting.set):
            order.append("second")

    other = threading.Thread(target=second)
    with alone(tmp_path / "lock", lambda: pytest.fail("nobody is there")):
        other.start()
        assert waiting.wait(10)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_a_full_disk_is_a_failure_of_the_run(tmp_path: Path) -> None:
    what = r"failed: No space left on device; what is finished is kept"
    with pytest.raises(RunError, match=what), writable(tmp_path, "corpus.cache", "work"):
        raise OSError(28, "No space left on device")


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    what = r"^corpus\.cache: cannot write in .*file/cache"
    with (
        pytest.raises(InputError, match=what),
        writable(tmp_path / "file" / "cache", "corpus.cache", "work"),
    ):
        pass
