from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.failure import heartbeat
from launcher.failure.heartbeat import kept_on_this_node, last_status

GONE = 1 << 22  # above the largest number that Linux gives a process


def test_folders_of_the_dead_go_and_nothing_that_others_put_there(tmp_path: Path) -> None:
    prefix = heartbeat._prefix()
    elsewhere = tmp_path / "elsewhere"
    shared = tmp_path / "shared"
    for folder in (elsewhere, shared / f"{prefix}{GONE}-a", shared / f"{prefix}name-a"):
        folder.mkdir(parents=True)
        (folder / "0").touch()
    (shared / f"{prefix}{GONE}-link").symlink_to(elsewhere)
    (shared / f"{prefix}{os.getpid()}-a").mkdir()
    heartbeat._clear_those_of_the_dead(shared)
    left = {path.name.removeprefix(prefix) for path in shared.iterdir()}
    assert left == {"name-a", f"{GONE}-link", f"{os.getpid()}-a"}
    assert (elsewhere / "0").exists()


def test_what_is_kept_is_for_no_other_user(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        with kept_on_this_node() as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "0").write_bytes(b"cos\nsystem\n(S'exit'\ntR.\0")
            assert last_status(folder, 0) is None
    finally:
        os.umask(before)
