"""The watchdog of a rank: whose main thread may stand in C, as in a collective of NCCL's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.failure.record import Failure, note_path, read_notes
from tests.cli import ROOT, TINY, environment, phalanx

HANGS = "mutex.pthread_mutex_lock(lock); mutex.pthread_mutex_lock(lock)"
PROCESS = """
import ctypes, sys, time
from pathlib import Path
from launcher.failure.watchdog import Watchdog
from launcher.training.signals import Signals
signals = Signals("USR1")
watchdog = Watchdog(Path(sys.argv[1]), 3, grace_s=1.5)
watchdog.watch("training", {limit})
mutex, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
print("begun", flush=True)
{rest}
"""


def begun(folder: Path, rest: str, limit: float = 60) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS.format(rest=rest, limit=limit), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def note_in(folder: Path) -> Failure:
    for _ in range(200):
        if note_path(folder, 3).exists():
            return read_notes(folder)[0]
        time.sleep(0.05)
    raise AssertionError("no note")


def test_a_rank_told_to_end_says_where_it_stands_though_it_stands_in_c(tmp_path: Path) -> None:
    process = begun(tmp_path, HANGS)
    try:
        process.send_signal(signal.SIGTERM)
        note = note_in(tmp_path)
        assert process.poll() is None  # it may yet go on: whoever told it ends it
    finally:
        process.kill()
        process.wait()
    assert note.message.startswith("was told to end and stood still")
    assert (note.ended_by, note.lost_peer, note.place) == (
        "SIGTERM",
        True,
        "training, before a step",
    )
    assert "<string>" in (tmp_path / "stacks_rank_3.txt").read_text()


def test_one_that_goes_on_takes_its_word_back(tmp_path: Path) -> None:
    rest = (
        "while not Path(sys.argv[1], 'failure_rank_3.json').exists(): time.sleep(0.05)\n"
        "watchdog.note('saving')\nprint(signals.came)"
    )
    process = begun(tmp_path, rest)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output.strip() == str(int(signal.SIGTERM))
    assert not note_path(tmp_path, 3).exists()


def test_a_limit_ends_a_rank_that_stands_in_c(tmp_path: Path) -> None:
    process = begun(tmp_path, HANGS, limit=0.5)
    assert process.wait(20) == 1
    note = note_in(tmp_path)
    assert (note.waited_s, note.lost_peer) == (0.5, True)


def test_a_shorter_limit_takes_effect_at_once_and_is_no_suspension(tmp_path: Path) -> None:
    rest = "watchdog.watch('training', 1.0); time.sleep(0.5); watchdog.stop(); time.sleep(2)"
    process = begun(tmp_path, rest, limit=3600)
    assert process.wait(20) == 0
    assert not note_path(tmp_path, 3).exists()


@pytest.mark.parametrize("limit", ["launch.start_timeout_s=20"])
def test_a_rank_that_joins_alone_says_so_and_ends(tmp_path: Path, limit: str) -> None:
    """Its partner never comes: NCCL and gloo would wait for as long as they were told to."""
    run = tmp_path / "run"
    result = phalanx("train", *TINY, "layout=tp2", "train.steps=1", limit, run_dir=run)
    assert result.status == 0, result.errors
    alone = environment() | {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20_000 + os.getpid() % 10_000),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "launcher.worker", "train", str(run)],
        env=alone,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 1
    (note,) = read_notes(run / "logs")
    assert note.place == "joining the others, before a step"
    assert note.waited_s == 20
