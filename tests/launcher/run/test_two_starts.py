"""Two starts of one run directory at random distances, with kills: one owner, nothing lost."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from launcher.run.jsonl import read_lines
from tests.cli import TINY, phalanx

SETTINGS = [*TINY, "layout=single", "train.save_every=20", "train.eval_every=0"]
ENDLESS = [*SETTINGS, "train.steps=100000", "log.progress=false"]
PAIRS = 10  # of starts


def curve(run: Path) -> list[tuple[int, float, float]]:
    rows = [row for row in read_lines(run / "metrics.jsonl") if "loss" in row]
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows]


def ended(process: subprocess.Popen[str], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.mark.long
def test_twenty_starts_of_two_runs_in_one_directory(tmp_path: Path) -> None:
    chance, run = random.Random(19), tmp_path / "run"
    for pair in range(PAIRS):
        first = phalanx.start("train", *ENDLESS, run_dir=run)
        time.sleep(chance.uniform(0, 10))
        second = phalanx.start("train", *ENDLESS, run_dir=run)
        until = time.monotonic() + 60
        while first.poll() is None and second.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        refused = [each for each in (first, second) if each.poll() is not None]
        assert len(refused) == 1, f"pair {pair}: {[each.poll() for each in (first, second)]}"
        owner = second if refused[0] is first else first
        said = refused[0].communicate()[1]
        assert refused[0].returncode == 2, said
        assert f"process {owner.pid} on" in said, said
        assert "has it" in said
        # Killed at any moment, while it starts or while it trains and saves.
        time.sleep(chance.uniform(0, 12))
        assert owner.poll() is None, owner.communicate()[1]
        owner.kill() if pair % 3 else owner.terminate()
        assert ended(owner, 60)
    steps = [step for step, _, _ in curve(run)]
    last = max(steps) + 5
    done = phalanx("train", f"train.stop_after={last}", run_dir=run)
    assert done.status == 0, done.errors
    assert [step for step, _, _ in curve(run)] == list(range(1, last + 1))
    alone = tmp_path / "alone"
    undisturbed = phalanx("train", *ENDLESS, f"train.stop_after={last}", run_dir=alone)
    assert undisturbed.status == 0, undisturbed.errors
    assert curve(run) == curve(alone)
