"""Ranks that die: who is named, what is left running, what is lost."""

from __future__ import annotations

import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from launcher.run.jsonl import read_lines
from parallel.checkpoint import manifest
from tests.cli import ROOT, TINY, environment, phalanx

WITHIN_S = 180


def rank_processes(launcher: int) -> dict[int, psutil.Process]:
    """The ranks of a running launcher that have come to life."""
    found = {}
    for process in psutil.Process(launcher).children(recursive=True):
        try:
            environment = process.environ()
            if "launcher.worker" in process.cmdline() and "RANK" in environment:
                found[int(environment["RANK"])] = process
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """Two ranks that train until they are stopped, saving at every step."""
    run = tmp_path / "run"
    process = phalanx.start(
        "train", *TINY, "layout=tp2", "layout.micro_batch=2", "train.steps=100000",
        "train.save_every=1", run_dir=run,
    )  # fmt: skip
    yield run, process
    if process.poll() is None:
        process.kill()
    process.wait()


def test_a_killed_rank_is_named_and_takes_the_others_down(
    long_run: tuple[Path, subprocess.Popen[str]],
) -> None:
    run, process = long_run
    wait_for(lambda: manifest.complete_checkpoints(run / "checkpoints"))
    ranks = rank_processes(process.pid)
    assert sorted(ranks) == [0, 1]
    ranks[1].kill()
    killed = time.monotonic()
    _, errors = process.communicate(timeout=WITHIN_S)
    assert time.monotonic() - killed < 20
    assert process.returncode == 1
    assert "rank 1 was ended by SIGKILL" in errors
    assert "  first    rank 1 (tensor 1, data 0, stage 0)" in errors
    assert "  waiting  rank 0 (tensor 0, data 0, stage 0)" in errors
    assert "gloo:" in errors  # the collective that was cut off
    assert "  what to do: " in errors
    assert (run / "failure.txt").read_text() in errors.replace("phalanx: ", "")
    assert "Traceback" not in errors
    assert not ranks[0].is_running()


def test_a_rank_that_hangs_is_named_by_those_that_wait(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = phalanx.start(
        "train", *TINY, "layout=tp2", "layout.micro_batch=2", "train.steps=100000",
        "launch.timeout_s=10", "launch.grace_s=2", run_dir=run,
    )  # fmt: skip
    wait_for(lambda: manifest.complete_checkpoints(run / "checkpoints"))
    rank_processes(process.pid)[1].suspend()
    _, errors = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 1
    assert "phalanx: rank 1 did not answer: rank 0 waited 10 s (" in errors
    assert "gave up after 10 s" in errors
    assert "gloo:" in errors
    assert (run / "logs" / "stacks_rank_0.txt").read_text()


def test_killed_in_the_middle_of_a_save(long_run: tuple[Path, subprocess.Popen[str]]) -> None:
    run, process = long_run
    checkpoints = run / "checkpoints"
    wait_for(lambda: len(manifest.complete_checkpoints(checkpoints)) >= 1)
    victim = rank_processes(process.pid)[1]

    def caught_saving() -> bool:
        # Stopped while a save is under way, rank 1 holds all others in it.
        if not list(checkpoints.glob("step_*.unfinished")):
            return False
        victim.suspend()
        time.sleep(0.3)
        if [p for p in checkpoints.glob("step_*.unfinished") if "deleted" not in p.name]:
            return True
        victim.resume()
        return False

    wait_for(caught_saving)
    unfinished = next(checkpoints.glob("step_*.unfinished"))
    before = manifest.find(run)
    victim.kill()
    process.communicate(timeout=WITHIN_S)
    assert process.returncode == 1
    assert manifest.find(run) == before
    assert before.name < unfinished.name
    step = int(before.name.removeprefix("step_"))
    again = phalanx("train", f"train.stop_after={step + 2}", run_dir=run)
    assert again.status == 0, again.errors
    assert f"going on from {before}" in again.output
    assert not list(checkpoints.glob("*.unfinished"))
    from tests.launcher.commands.test_train import curve

    assert [row[0] for row in curve(run)] == list(range(1, step + 3))


def test_ranks_do_not_outlive_a_killed_launcher(
    long_run: tuple[Path, subprocess.Popen[str]],
) -> None:
    run, process = long_run
    wait_for(lambda: manifest.complete_checkpoints(run / "checkpoints"))
    ranks = list(rank_processes(process.pid).values())
    assert len(ranks) == 2
    process.kill()
    process.wait()
    wait_for(lambda: not any(rank.is_running() and rank.status() != "zombie" for rank in ranks))


def test_a_full_disk_while_saving(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    before = manifest.complete_checkpoints(run / "checkpoints")

    def small_files() -> None:
        # What the kernel says when a file may not grow; a full disk differs by a word.
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    result = phalanx("train", "train.steps=8", run_dir=run, before=small_files)
    assert result.status == 1
    assert "the checkpoint of step 8 was not saved" in result.errors
    assert "unharmed" in result.errors
    assert manifest.complete_checkpoints(run / "checkpoints") == before
    assert not list((run / "checkpoints").glob("*.unfinished"))
    again = phalanx("train", "train.steps=8", run_dir=run)
    assert again.status == 0, again.errors


def test_damaged_checkpoints_cost_steps_and_not_the_run(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    oldest, middle, newest = manifest.complete_checkpoints(run / "checkpoints")
    before = read_lines(run / "metrics.jsonl")
    # One cut short, which is seen before anything starts; one with a bit turned over.
    cut = max(newest.glob("*.distcp"), key=lambda path: path.stat().st_size)
    cut.write_bytes(cut.read_bytes()[:-100])
    turned = max(middle.glob("*.distcp"), key=lambda path: path.stat().st_size)
    content = bytearray(turned.read_bytes())
    content[len(content) // 2] ^= 1
    turned.write_bytes(content)
    result = phalanx("train", run_dir=run)
    assert result.status == 0, result.errors
    assert f"{cut.name} has" in result.output
    assert f"{turned.name} is damaged" in result.output
    assert f"going on from {oldest}" in result.output
    kept = sorted(path.name for path in (run / "checkpoints").glob("*.damaged"))
    assert kept == [f"{middle.name}.damaged", f"{newest.name}.damaged"]
    assert manifest.find(run).name == newest.name  # written anew

    def said(rows: list[dict[str, object]]) -> list[object]:
        return [(row["step"], row.get("loss"), row.get("eval_loss")) for row in rows]

    assert said(read_lines(run / "metrics.jsonl")) == said(before)


def test_a_disk_too_small_for_a_third_checkpoint(tmp_path: Path) -> None:
    # A disk of its own, in a namespace of its own: it goes with the process.
    inside = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*inside, "mount -t tmpfs tmpfs /mnt"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    command = [sys.executable, "-m", "launcher", "train", *TINY, "layout=single"]
    command += ["layout.micro_batch=2", "train.steps=8", "train.keep_checkpoints=0"]
    script = (
        f"mount -t tmpfs -o size=3m tmpfs {tmp_path} && {shlex.join(command)} "
        f"run_dir={tmp_path}/run; status=$?; ls {tmp_path}/run/checkpoints; exit $status"
    )
    done = subprocess.run(
        [*inside, script], capture_output=True, text=True, env=environment(), cwd=ROOT
    )
    assert done.returncode == 1
    assert "the checkpoint of step 6 was not saved" in done.stderr
    assert "/run/checkpoints is full" in done.stderr
    assert done.stdout.split()[-3:] == ["latest", "step_00000002", "step_00000004"]


def test_interrupting_ends_quietly(long_run: tuple[Path, subprocess.Popen[str]]) -> None:
    run, process = long_run
    wait_for(lambda: manifest.complete_checkpoints(run / "checkpoints"))
    ranks = rank_processes(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not any(rank.is_running() for rank in ranks.values())
