"""Whatever a user gets wrong is one line on the terminal, exit status 2, and nothing started."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from parallel.checkpoint import manifest
from tests.cli import TINY, PhalanxResult, phalanx

Cli = Callable[..., PhalanxResult]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.heds=4"], "model.heds: there is no such setting; nearest: model.heads"),
        (["+layout.tensr=2"], "layout.tensr: there is no such setting; nearest: layout.tensor"),
        (["model.heads=six"], "model.heads=six: takes int (attention heads per layer)"),
        (["model=gpt3_12b"], "model=gpt3_12b: there is no such file; nearest: model=gpt3_13b"),
        (["tensor"], "'tensor' is not a setting; nearest: layout.tensor=VALUE"),
        (["corpus.text=no/such/text"], "corpus.text: no file or folder no/such/text"),
        (["model.tokenizer=tests"], "model.tokenizer: no tokenizer.json in the folder tests ("),
        (
            ["model.tokenizer=gpt2", "model.vocab=50257", "model.end_token=endoftext"],
            "model.end_token=endoftext: the tokenizer has no such token; nearest: model.end_token=",
        ),
        (["device=cuda"], "device=cuda: there is no CUDA device here; device=cpu needs none"),
        (["launch=local", "checkpoint=no/such"], "checkpoint=no/such: there is no such folder"),
    ],
)
def test_one_line_and_status_2(
    overrides: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the same on machines that have some
    result = phalanx("train", *overrides, run_dir=tmp_path / "run")
    assert result.status == 2
    assert expected in result.errors
    assert "Traceback" not in result.errors
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"plain text, then \xff\xfe", "UTF-8"),
        (b"a few words\n", "too little text"),
    ],
)
def test_text_that_cannot_be_used(content: bytes, expected: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    result = phalanx("train", *TINY, f"corpus.text={text}", run_dir=tmp_path / "run")
    assert result.status == 2
    assert "corpus.text" in result.errors
    assert expected in result.errors
    assert len(result.errors.strip().splitlines()) == 1


def test_a_wrong_split_of_175b_is_told_whole_and_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    result = phalanx(
        "train",
        "model=gpt3_175b",
        "layout.tensor=7",
        "layout.pipeline=5",
        "layout.interleave=2",
        "layout.zero=1",
        "cluster=dgx_a100",
        run_dir=tmp_path / "run",
    )
    elapsed = time.monotonic() - started
    assert result.status == 2
    for setting in ("layout.tensor=7", "layout.pipeline=5", "layout.zero=1", "at hand"):
        assert setting in result.errors
    # Importing torch alone takes longer than this on the machines this runs on.
    assert elapsed < 10, "a refusal must not wait for torch"


def test_refusals_import_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        "sys.argv = ['phalanx', 'train', 'layout.tensor=3']; from launcher.cli import main; main()"
    )
    done = phalanx.python("-c", code)
    assert done.status == 2
    assert "layout.tensor=3: 4 heads and" in done.errors


def test_a_busy_port(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = phalanx("train", *TINY, f"launch.port={port}", run_dir=tmp_path / "run")
    assert result.status == 2
    assert f"launch.port={port}" in result.errors
    assert "nearest: launch.port=" in result.errors


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = phalanx("train", *TINY, run_dir=tmp_path)
    assert result.status == 2
    assert "is not empty and holds no run" in result.errors
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


class TestCheckpoints:
    """On copies of one trained run."""

    @pytest.fixture
    def run(self, trained: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(trained, tmp_path / "copy", symlinks=True))

    def test_asked_for_and_truncated(self, run: Path) -> None:
        newest = manifest.find(run)
        largest = max(newest.glob("*.distcp"), key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-100])
        result = phalanx("train", "train.steps=9", f"checkpoint={newest}", run_dir=run)
        assert result.status == 2
        assert largest.name in result.errors
        assert "were written" in result.errors
        earlier = manifest.complete_checkpoints(run / "checkpoints")[-2]
        assert f"an earlier one: checkpoint={earlier}" in result.errors

    def test_none_is_whole(self, run: Path) -> None:
        for checkpoint in manifest.complete_checkpoints(run / "checkpoints"):
            (checkpoint / "manifest.json").write_text("{}")
        result = phalanx("train", "train.steps=9", run_dir=run)
        assert result.status == 2
        assert "no readable manifest.json" in result.errors
        assert len(result.errors.strip().splitlines()) == 1

    def test_of_another_model(self, run: Path) -> None:
        result = phalanx("train", "train.steps=9", "model.layers=2", run_dir=run)
        assert result.status == 2
        assert "model.layers is 4 there, 2 here" in result.errors

    def test_of_another_seed(self, run: Path) -> None:
        result = phalanx("train", "train.steps=9", "train.seed=5", run_dir=run)
        assert result.status == 2
        assert "train.seed=5" in result.errors

    def test_on_other_text(self, run: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.txt"
        other.write_text("Quite another text, and rather more of it.\n" * 300)
        result = phalanx("train", "train.steps=9", f"corpus.text={other}", run_dir=run)
        assert result.status == 2
        assert "was trained on other text" in result.errors

    def test_nothing_left_to_do(self, run: Path) -> None:
        before = (run / "metrics.jsonl").read_text()
        result = phalanx("train", run_dir=run)
        assert result.status == 0
        assert "nothing to do" in result.output
        assert (run / "metrics.jsonl").read_text() == before

    def test_generate_from_nothing(self, tmp_path: Path) -> None:
        result = phalanx("generate", f"checkpoint={tmp_path}")
        assert result.status == 2
        assert "there is no checkpoint" in result.errors


def test_manifest_lists_every_file(trained: Path) -> None:
    newest = manifest.find(trained)
    listed = json.loads((newest / "manifest.json").read_text())["files"]
    there = {path.name for path in newest.iterdir()} - {"manifest.json"}
    assert set(listed) == there


def test_nothing_is_left_running(own_cache: str) -> None:
    """Of all that was started under this session's cache."""
    left = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get("PHALANX_CACHE") == own_cache
            if ours and "launcher.worker" in (process.info["cmdline"] or []):
                left.append(process)
    assert not left
