"""Jobs of a real SLURM: to the end, told to stop, killed, restarted, on fewer nodes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.run.run_dir import RunFolder
from parallel.checkpoint import manifest
from tests.cli import phalanx
from tests.slurm.jobs import (
    FOUR_RANKS,
    RARELY,
    TWO_RANKS,
    last_step,
    ranks_of,
    said,
    same_rows,
    starts,
    submitted,
    undisturbed_run,
    wait_for,
    wait_for_start,
)
from tests.slurm_cluster import SlurmCluster

STEPS = [*RARELY, "train.steps=80"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory.mktemp("four"), *STEPS, "layout=tp2_pp2")


def test_told_to_stop_killed_requeued_and_begun_again_it_is_the_same_run(
    cluster: SlurmCluster, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "a run's directory"
    own = tmp_path / "conf" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\ntrain: {steps: 80}\n")
    job = submitted(
        run, *FOUR_RANKS, *RARELY, "--config-dir", str(own.parents[1]), "experiment=mine"
    )
    own.unlink()  # nothing that follows needs it
    wait_for(lambda: last_step(run) >= 3, run, "the first steps")
    for command, why in (
        (["train", "launch=local"], f"of job {job} on node1"),
        (["train"], f"job {job} of this run is RUNNING; nearest: phalanx cancel "),
    ):
        refused = phalanx(*command, run_dir=run)
        assert refused.status == 2
        assert why in refused.errors
    cluster.run("scancel", "--signal=USR1", str(job))
    wait_for_start(2, run)
    told = starts(run)[1]["saved"]
    assert told >= 3  # saved where it stopped, not at a multiple of save_every
    assert told % 40
    wait_for(lambda: last_step(run) > told, run, "steps of the second start")
    os.kill(ranks_of(run)[-1].pid, signal.SIGKILL)
    wait_for_start(3, run)
    report = (run / "failure.txt").read_text()
    assert "was ended by SIGKILL" in report.splitlines()[0]
    assert ", step " in report.splitlines()[1]
    assert "waiting  rank" in report
    wait_for(lambda: last_step(run) > told, run, "steps of the third start")
    cluster.run("scontrol", "requeue", str(job))
    wait_for_start(4, run)
    wait_for(lambda: (run / "DONE").exists(), run, "the end")
    wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", run, "the job's end")
    assert same_rows(run) == same_rows(undisturbed)
    told_lines = [line for line in said(run).splitlines() if line.startswith("phalanx:")]
    assert any("restarts: stopped by SIGUSR1" in line for line in told_lines)
    assert any("was ended by SIGKILL" in line for line in told_lines)
    status = phalanx("status", run_dir=run)
    assert status.status == 0
    assert "step     80 of 80" in status.output
    assert "end      done" in status.output
    assert f"job      {job} COMPLETED" in status.output


def test_a_node_that_does_not_come_back_is_done_without(
    cluster: SlurmCluster, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    wait_for(cluster.all_idle, run, "both nodes")  # it would begin with one
    split = ["layout=tp2", "layout.context=2", "layout.context_by=ring"]  # over the nodes
    elastic = ["launch.elastic=true", "train.save_every=10"]
    job = submitted(run, *FOUR_RANKS, *STEPS, *split, *elastic)
    wait_for(lambda: RunFolder(run).saved_step() >= 10, run, "a checkpoint")
    cluster.kill_node("node2")
    try:
        wait_for_start(2, run)
        assert starts(run)[1]["nodes"] == "node1"
        wait_for(lambda: (run / "DONE").exists(), run, "the end")
        wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", run, "the job's end")
    finally:
        cluster.start_node("node2")
    assert "1 node where 2 were asked for: layout" in said(run)
    assert "2x1-cp2" not in (run / "layout.txt").read_text()
    rows, expected = same_rows(run), same_rows(undisturbed)
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    assert [row.get("samples") for row in rows] == [row.get("samples") for row in expected]
    for name in ("loss", "eval_loss", "grad_norm"):
        mine = [row[name] for row in rows if name in row]
        assert mine == pytest.approx([row[name] for row in expected if name in row], rel=1e-4)
    wait_for(cluster.all_idle, run, "both nodes")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_and_a_damaged_checkpoint(
    cluster: SlurmCluster, small_disk: Path, tmp_path: Path
) -> None:
    often = ["train.steps=12", "train.save_every=2", "train.keep_checkpoints=0"]
    often += ["train.eval_every=5", "log.tensorboard=false"]
    undisturbed = undisturbed_run(tmp_path, *often, "layout=pp2")
    run = small_disk / "run"
    job = submitted(run, *TWO_RANKS, *often)
    wait_for(lambda: cluster.job(job)["JobState"] == "FAILED", run, "the job's end")
    assert "does not restart: it would fail again" in said(run)
    assert "was not saved" in said(run)
    assert "what to do: make room" in said(run)
    whole = manifest.complete_checkpoints(run / "checkpoints")
    assert whole
    assert len(starts(run)) == 1
    # Somebody makes room; meanwhile a bit of the newest checkpoint has turned over.
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    turned = max(whole[-1].glob("*.distcp"), key=lambda path: path.stat().st_size)
    content = bytearray(turned.read_bytes())
    content[len(content) // 2] ^= 1
    turned.write_bytes(content)
    again = int(cluster.run("sbatch", "--parsable", str(run / "job.sbatch")))
    wait_for(lambda: cluster.job(again)["JobState"] == "COMPLETED", run, "the job's end")
    assert f"{turned.name} is damaged" in said(run)
    assert f"going on from {whole[-2]}" in said(run)
    assert same_rows(run) == same_rows(undisturbed)


def test_cancel_saves_and_wrong_settings_do_not_begin_again(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = submitted(run, *TWO_RANKS, "train.steps=100000", "train.save_every=0")
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
    config = run / "settings.yaml"
    config.write_text(config.read_text().replace("heads: 4", "heads: 3"))
    number = int(cluster.run("sbatch", "--parsable", str(run / "job.sbatch")))
    wait_for(lambda: cluster.job(number)["JobState"] == "FAILED", run, "the job's end")
    assert "does not restart: it would fail again" in said(run)
