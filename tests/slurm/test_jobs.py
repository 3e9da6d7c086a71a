"""Jobs of a real SLURM: to the end, told to stop, killed, begun again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.hooks.metrics import read_metrics
from launcher.run_folder import RunFolder
from launcher.submit import read_jobs
from tests.cli import TINY, phalanx
from tests.slurm_cluster import SlurmCluster

ON_TWO_NODES = ["launch=slurm", "device=cpu", "cluster.nodes=2", "cluster.gpus_per_node=2"]
ON_TWO_NODES += ["layout=tp2_pp2", "launch.grace_s=30"]
SAME = ("loss", "grad_norm", "learning_rate", "samples", "tokens", "eval_loss")
WITHIN_S = 300


def wait_for(holds: Callable[[], object], run: Path, what: str) -> None:
    until = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > until:
            pytest.fail(f"waited {WITHIN_S} s for {what}; the job said:\n{said(run)}")
        time.sleep(0.1)


def said(run: Path) -> str:
    return "\n".join(path.read_text() for path in sorted((run / "logs").glob("slurm-*.out")))


def submitted(run: Path, *overrides: str) -> int:
    prepared = phalanx("prepare", *TINY)
    assert prepared.status == 0, prepared.errors
    result = phalanx("train", *TINY, *ON_TWO_NODES, *overrides, run_dir=run)
    assert result.status == 0, result.errors
    assert "submitted: job" in result.output
    return read_jobs(RunFolder(run))[-1]


def last_step(run: Path) -> int:
    path = run / "metrics.jsonl"
    return max((row["step"] for row in read_metrics(path)), default=0) if path.exists() else 0


def starts(run: Path) -> list[dict[str, Any]]:
    path = run / "starts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ranks_of(run: Path) -> list[psutil.Process]:
    return processes_of(run, "-u")  # as torchrun starts them


def processes_of(run: Path, word: str) -> list[psutil.Process]:
    """Those of a run that have this word among their arguments."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if word in words and f"run_dir={run}" in words:
            found.append(process)
    return found


def same_rows(run: Path) -> list[dict[str, Any]]:
    """What a run's metrics say but for time and memory."""
    rows = read_metrics(run / "metrics.jsonl")
    return [{key: row[key] for key in ("step", *SAME) if key in row} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    result = phalanx("train", *TINY, "layout=tp2_pp2", *LONG, "train.steps=150", run_dir=run)
    assert result.status == 0, result.errors
    return run


LONG = ["train.save_every=40", "train.eval_every=25", "train.keep_checkpoints=0"]


def test_told_to_stop_killed_and_begun_again_it_is_the_same_run(
    cluster: SlurmCluster, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = submitted(run, *LONG, "train.steps=150")
    wait_for(lambda: last_step(run) >= 3, run, "the first steps")
    cluster.run("scancel", "--signal=USR1", str(job))
    wait_for(lambda: len(starts(run)) == 2, run, "the second start")
    told = starts(run)[1]["saved"]
    assert told >= 3  # saved where it stopped, not at a multiple of save_every
    assert told % 40
    wait_for(lambda: last_step(run) > told, run, "steps of the second start")
    victim = ranks_of(run)[-1]
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(lambda: len(starts(run)) == 3, run, "the third start")
    wait_for(lambda: (run / "DONE").exists(), run, "the end")
    wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", run, "the job's end")
    assert same_rows(run) == same_rows(undisturbed)
    told_lines = [line for line in said(run).splitlines() if line.startswith("phalanx:")]
    assert any("begins again: stopped by SIGUSR1" in line for line in told_lines)
    assert any("was ended by SIGKILL" in line for line in told_lines)
    status = phalanx("status", run_dir=run)
    assert status.status == 0
    assert "step     150 of 150" in status.output
    assert "end      done" in status.output
    assert f"job      {job} COMPLETED" in status.output


@pytest.mark.long
def test_an_agent_a_hung_rank_and_a_node_are_lost(
    cluster: SlurmCluster, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = submitted(run, *LONG, "train.steps=150", "train.save_every=5", "launch.timeout_s=15")

    def begun(start: int) -> None:
        """The start is under way, and has saved something new."""
        wait_for(lambda: len(starts(run)) == start, run, f"start {start}")
        before = starts(run)[-1]["saved"]
        wait_for(lambda: RunFolder(run).saved_step() > before, run, "a checkpoint")

    begun(1)
    agents = processes_of(run, "launcher.agent")
    os.kill(agents[-1].pid, signal.SIGKILL)
    begun(2)
    os.kill(ranks_of(run)[0].pid, signal.SIGSTOP)
    begun(3)
    assert "did not answer: rank" in said(run)
    cluster.kill_node("node2")
    wait_for(lambda: "node2" in cluster.run("sinfo", "-h", "-t", "down", "-o", "%N"), run, "death")
    cluster.start_node("node2")
    begun(4)
    wait_for(lambda: (run / "DONE").exists(), run, "the end")
    wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", run, "the job's end")
    assert same_rows(run) == same_rows(undisturbed)
    assert not ranks_of(run)


@pytest.mark.long
def test_the_time_limit_is_heeded_and_a_stop_file_is_final(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # The shortest limit is minutes, and SLURM may send its signal a minute early.
    job = submitted(run, "launch.time_limit=2", "train.steps=100000", "train.save_every=0")
    wait_for(lambda: len(starts(run)) == 2, run, "the second start")
    assert "stopped by SIGUSR1" in said(run)
    assert starts(run)[1]["saved"] > 0
    (run / "STOP").touch()
    wait_for(lambda: cluster.job(job)["JobState"] == "FAILED", run, "the job's end")
    assert "does not begin again: the run directory has a STOP file" in said(run)
    refused = phalanx("train", run_dir=run)
    assert refused.status == 2
    assert "STOP" in refused.errors


def test_cancel_saves_and_wrong_settings_do_not_begin_again(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = submitted(run, "train.steps=100000", "train.save_every=0")
    wait_for(lambda: last_step(run) >= 2, run, "the first steps")
    cancelled = phalanx("cancel", run_dir=run)
    assert cancelled.status == 0, cancelled.errors
    wait_for(lambda: cluster.job(job)["JobState"] == "CANCELLED", run, "the job's end")
    wait_for(lambda: not ranks_of(run), run, "the ranks' end")
    assert (run / "stopped.json").exists()
    again = phalanx("cancel", run_dir=run)
    assert again.status == 2
    assert "none of its jobs is left" in again.errors
    # The script is the user's to edit; its run's settings may be broken by then.
    config = run / "overrides.yaml"
    config.write_text(config.read_text().replace("model.heads=4", "model.heads=3"))
    number = int(cluster.run("sbatch", "--parsable", str(run / "job.sbatch")))
    wait_for(lambda: cluster.job(number)["JobState"] == "FAILED", run, "the job's end")
    assert "does not begin again: the settings are at fault" in said(run)
