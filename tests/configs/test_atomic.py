"""Several processes write the same name: each reader sees one of them, whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from configs.atomic import atomic_file, atomic_folder, write_atomic
from configs.errors import InputError


def fill(target: Path, number: int, together: Barrier) -> Path:
    def next_name(taken: Path) -> Path:
        count = int(taken.name.partition("-")[2] or "1")
        return target.with_name(f"{target.name}-{count + 1}")

    with atomic_folder("evaluate.out", target, next_name) as filling:
        (filling.folder / "a").write_text(str(number))
        together.wait()
        (filling.folder / "b").write_text(str(number))
    return filling.target


def test_folders_of_one_name_at_once(tmp_path: Path) -> None:
    together = Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: fill(tmp_path / "step", n, together), range(4)))
    assert {path.name for path in made} == {"step", "step-2", "step-3", "step-4"}
    for number, path in enumerate(made):
        assert [(path / name).read_text() for name in "ab"] == [str(number)] * 2
    assert len(list(tmp_path.iterdir())) == 4


def write_into(target: Path, text: str, meanwhile: Path | None = None) -> None:
    with atomic_folder("convert.to", target) as filling:
        (filling.folder / "x").write_text(text)
        if meanwhile is not None:
            write_into(meanwhile, "early")


def test_a_name_that_was_given_is_taken_once(tmp_path: Path) -> None:
    target = tmp_path / "to"
    with pytest.raises(InputError, match=r"convert\.to=.*is there already"):
        write_into(target, "late", meanwhile=target)
    assert (target / "x").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


def test_an_empty_folder_is_no_obstacle_and_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with atomic_folder("convert.to", tmp_path / "empty") as filling:
        (filling.folder / "x").write_text("1")
    assert (tmp_path / "empty" / "x").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError), atomic_folder("convert.to", tmp_path / "file"):
        pass


def fail_half_way(path: Path) -> None:
    with atomic_file(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    write_atomic(tmp_path / "page.html", "before")
    with pytest.raises(RuntimeError):
        fail_half_way(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1
