"""A run that is told to stop saves, says so, and goes on as if it had never stopped."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from launcher.training.callbacks.metrics import lacks_evaluation
from parallel.checkpoint import manifest
from tests.cli import TINY, phalanx
from tests.launcher.commands.test_train import rows, samples_read

SETTINGS = [*TINY, "layout=dp2", "train.save_every=0", "train.eval_every=10", "train.steps=60"]
SAME = ("step", "loss", "grad_norm", "learning_rate", "samples", "eval_loss")


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def steps_taken(run: Path) -> int:
    if not (run / "metrics.jsonl").exists():
        return 0
    return sum('"loss"' in line for line in (run / "metrics.jsonl").read_text().splitlines())


def same(run: Path) -> list[dict[str, object]]:
    return [{key: row[key] for key in SAME if key in row} for row in rows(run)]


def rank_begins(agent: int) -> bool:
    for child in psutil.Process(agent).children():
        with contextlib.suppress(psutil.Error):
            if "-u" in child.cmdline():
                return True
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert phalanx("train", *SETTINGS, run_dir=run).status == 0
    return run


def test_a_signal_saves_and_the_run_goes_on_as_if_none_had_come(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    started = phalanx.start("train", *SETTINGS, run_dir=run)
    wait_for(lambda: steps_taken(run) >= 3)
    (run / "SAVE").touch()
    wait_for(lambda: bool(manifest.complete_checkpoints(run / "checkpoints")))
    assert not (run / "SAVE").exists()
    started.send_signal(signal.SIGTERM)
    output, errors = started.communicate(timeout=180)
    assert started.returncode == 75, errors
    said = json.loads((run / "stopped.json").read_text())
    assert said["reason"] == "SIGTERM"
    assert f"stopped by SIGTERM after step {said['step']} and saved" in output
    assert "a SAVE file was found: saves after this step" in output
    assert manifest.find(run).name == f"step_{said['step']:08d}"
    assert not (run / "DONE").exists()
    done = phalanx("train", run_dir=run)
    assert done.status == 0, done.errors
    assert (run / "DONE").exists()
    assert not (run / "stopped.json").exists()
    assert same(run) == same(undisturbed)
    assert samples_read(run) == samples_read(undisturbed)


def test_a_stop_file_ends_it_and_keeps_it_from_going_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    started = phalanx.start("train", *SETTINGS, "train.steps=100000", run_dir=run)
    wait_for(lambda: steps_taken(run) >= 1)
    (run / "STOP").touch()
    output, errors = started.communicate(timeout=180)
    assert started.returncode == 75, errors
    again = f"rm {run}/STOP && phalanx train run_dir={run} goes on"
    assert "stopped by a STOP file" in output
    assert again in output
    refused = phalanx("train", run_dir=run)
    assert refused.status == 2
    assert "has a STOP file; without it the run goes on" in refused.errors


def test_a_signal_while_ranks_begin_is_kept_for_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [*SETTINGS, "layout=single", "train.steps=100000", "launch.node=0"]
    started = phalanx.start("train", *settings, "launch=torchrun", run_dir=run)
    wait_for(lambda: rank_begins(started.pid))
    started.send_signal(signal.SIGUSR1)
    _, errors = started.communicate(timeout=180)
    assert started.returncode == 1
    assert "told to end by SIGUSR1" in errors
    assert json.loads((run / "stopped.json").read_text())["reason"] == "SIGUSR1"


def test_what_was_not_evaluated_is_found(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert not lacks_evaluation(metrics, 10)
    metrics.write_text('{"step": 10, "loss": 1.0}\n')
    assert lacks_evaluation(metrics, 10)
    assert not lacks_evaluation(metrics, 20)  # of another run's checkpoint nothing is known
    metrics.write_text('{"step": 10, "loss": 1.0}\n{"step": 10, "eval_loss": 1.0}\n')
    assert not lacks_evaluation(metrics, 10)
