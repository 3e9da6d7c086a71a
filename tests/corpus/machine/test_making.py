from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import InputError, RunError
from configs.settings.text import MachineText, TextFormat
from corpus.formats import format_of, read
from corpus.formats.records import Record
from corpus.machine import machine_file, making
from corpus.machine.documents import Named

QUIET: Callable[[str], None] = lambda told: None  # noqa: E731
COLLECTED = [kind for kind in MachineText if kind is not MachineText.crawl]


def records(path: Path) -> list[str]:
    format = format_of(path, TextFormat.auto, [])
    assert format is not None
    found = list(read(path, format, field="text"))
    assert all(isinstance(each, Record) for each in found)
    return [each.text for each in found if isinstance(each, Record)]


@pytest.mark.parametrize("kind", COLLECTED)
def test_the_text_has_the_size_asked_for(kind: MachineText, tmp_path: Path) -> None:
    texts = records(machine_file(kind, tmp_path, 100_000, QUIET))
    assert 80_000 < sum(len(text.encode()) for text in texts) <= 100_000
    assert len(set(texts)) == len(texts) > 5
    assert all(text.strip() for text in texts)


@pytest.mark.parametrize("kind", COLLECTED)
def test_the_same_machine_makes_the_same_file(kind: MachineText, tmp_path: Path) -> None:
    one, two = (
        machine_file(kind, tmp_path / folder, 30_000, QUIET).read_bytes() for folder in "ab"
    )
    assert one == two


def test_a_file_is_made_once(tmp_path: Path) -> None:
    told: list[str] = []
    path = machine_file(MachineText.manual, tmp_path, 20_000, told.append)
    status = path.stat()
    assert machine_file(MachineText.manual, tmp_path, 20_000, told.append) == path
    assert path.stat() == status
    assert told == ["collecting Python's manual"]


def test_a_name_tells_what_the_text_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = platform.python_version()
    path = machine_file(MachineText.library, tmp_path, 20_000, QUIET)
    assert path.name == f"library-python{python}-20000.jsonl"
    monkeypatch.setattr(making, "installed_hash", lambda: "0badcafe")
    path = machine_file(MachineText.packages, tmp_path, 20_000, QUIET)
    assert path.name == f"packages-python{python}-20000-0badcafe.jsonl.zst"


def test_a_line_says_where_the_text_is_from(tmp_path: Path) -> None:
    path = machine_file(MachineText.library, tmp_path, 50_000, QUIET)
    for line in path.read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        assert document["source"] == "library"
        assert document["name"].endswith(".py")


def test_the_first_of_two_makers_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> list[Named]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(making._RECIPES, MachineText.manual, recipe)
            machine_file(MachineText.manual, tmp_path, 20_000, QUIET)  # another process
        return [Named("late", "the later text")]

    recipe = making._RECIPES[MachineText.manual]
    late = recipe._replace(documents=slow)
    monkeypatch.setitem(making._RECIPES, MachineText.manual, late)
    path = machine_file(MachineText.manual, tmp_path, 20_000, QUIET)
    assert "the later text" not in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_file_that_was_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"no text for machine=manual within max_bytes"):
        machine_file(MachineText.manual, tmp_path, 10, QUIET)
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(InputError, match=r"without its manual .*corpus\.text=PATH"):
        machine_file(MachineText.manual, tmp_path, 0, QUIET)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^cannot make .*manual-.*: (Not a dir|File exists)"):
        machine_file(MachineText.manual, tmp_path / "file", 0, QUIET)
