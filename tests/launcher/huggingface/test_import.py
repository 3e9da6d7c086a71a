"""`phalanx convert convert.source=DIR`: a whole run, or nothing and one line."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
from torch import Tensor

from launcher.cli import guarded
from launcher.commands import convert
from models.huggingface.reading import Weights
from parallel.checkpoint.manifest import find
from tests import pretrained
from tests.asking import tokenizer_json
from tests.cli import phalanx

Convert = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with a tokenizer. Not to be changed."""
    folder = tmp_path_factory.mktemp("theirs") / "llama"
    pretrained.write(folder, "llama3", vocab_size=300)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    return folder


@pytest.fixture
def imported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Convert:
    """`phalanx convert` in this process: its status, and what it says of a mistake."""

    def run(source: Path, *more: str) -> tuple[int, str]:
        words = [f"convert.source={source}", f"run_dir={tmp_path / 'made'}", *more]
        monkeypatch.setattr(sys, "argv", ["phalanx convert", *words])
        capfd.readouterr()
        status = guarded(convert.app)
        return status, capfd.readouterr().err

    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("inside", [True, False], ids=["before it", "its own"])
def test_a_signal_leaves_nothing(
    theirs: Path, imported: Convert, tmp_path: Path, number: int, inside: bool
) -> None:
    made, stream, sent = tmp_path / "made", Weights.stream, Event()
    if inside:
        made.mkdir()

    def ended(self: Weights, name: str, out: Tensor, first: int) -> None:
        stream(self, name, out, first)
        if not sent.is_set():
            sent.set()
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Weights, "stream", ended)
        if number == signal.SIGTERM:
            with pytest.raises(SystemExit) as left:
                imported(theirs)
            assert left.value.code == 128 + number
        else:
            assert imported(theirs) == (130, "phalanx: interrupted\n")
    assert made.exists() == inside
    assert not inside or [path.name for path in made.iterdir()] == ["owner"]
    status, said = imported(theirs)
    assert status == 0, said


def test_what_a_killed_one_left_is_taken_over(
    theirs: Path, imported: Convert, tmp_path: Path
) -> None:
    made, stream = tmp_path / "made", Weights.stream

    def killed(self: Weights, name: str, out: Tensor, first: int) -> None:
        stream(self, name, out, first)
        os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        Weights.stream = killed  # type: ignore[method-assign]
        with suppress(BaseException):
            imported(theirs)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = {path.name for path in made.iterdir()}
    assert left == {"owner", "checkpoints", "CONVERTING"}
    status, said = imported(theirs)
    assert status == 0, said
    assert not (made / "CONVERTING").exists()
    assert find(made).name == "step_00000000"
    status, said = imported(theirs)
    assert (status, "is there already; give another" in said) == (2, True)


def test_what_was_there_stays(theirs: Path, imported: Convert, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "notes").write_text("mine")
    status, said = imported(theirs)
    assert (status, "is there already; give another" in said) == (2, True)
    assert (tmp_path / "made" / "notes").read_text() == "mine"


def test_a_full_disk_is_told_in_one_line(theirs: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"

    def small_files() -> None:
        # What the kernel says when a file may not grow; a full disk differs by a word.
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    given = ("convert", f"convert.source={theirs}")
    result = phalanx(*given, run_dir=made, before=small_files)
    assert result.errors == f"phalanx: run_dir={made}: File too large\n"
    assert result.status == 2
    assert not made.exists()
    again = phalanx(*given, run_dir=made)
    assert again.status == 0, again.errors
