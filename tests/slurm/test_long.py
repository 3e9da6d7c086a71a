"""What takes minutes on a real SLURM: time limits, preemption, lost nodes, many kills."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from launcher.run.jsonl import read_lines
from launcher.run.run_dir import RunFolder
from slurm.commands import ENDED
from tests.cli import TINY, phalanx
from tests.slurm.jobs import (
    FOUR_RANKS,
    RARELY,
    TWO_RANKS,
    agents_of,
    last_step,
    ranks_of,
    said,
    same_rows,
    starts,
    submitted,
    undisturbed_run,
    wait_for,
    wait_for_progress,
    wait_for_start,
    wait_for_steps,
)
from tests.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.long

STEPS = [*RARELY, "train.steps=150"]
KILLS = 30
PAIRS = 10  # of jobs


def test_an_agent_a_hung_rank_and_a_node_are_lost(cluster: SlurmCluster, tmp_path: Path) -> None:
    undisturbed = undisturbed_run(tmp_path, *STEPS, "layout=tp2_pp2")
    run = tmp_path / "run"
    often = ["train.save_every=5", "launch.timeout_s=15"]
    job = submitted(run, *FOUR_RANKS, *STEPS, *often)
    wait_for_progress(1, run)
    os.kill(agents_of(run)[-1].pid, signal.SIGKILL)
    wait_for_progress(2, run)
    assert "left no message" in said(run)
    os.kill(ranks_of(run)[0].pid, signal.SIGSTOP)
    wait_for_progress(3, run)
    assert "did not answer: rank" in said(run)
    report = next(run.glob("failure.txt")).read_text()
    assert "gave up after 15 s" in report
    assert "in gloo:" in report  # which collective the others were in
    cluster.kill_node("node2")
    wait_for(lambda: "node2" in cluster.run("sinfo", "-h", "-t", "down", "-o", "%N"), run, "death")
    cluster.start_node("node2")
    wait_for_progress(4, run)
    wait_for(lambda: (run / "DONE").exists(), run, "the end")
    wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", run, "the job's end")
    assert same_rows(run) == same_rows(undisturbed)
    assert not ranks_of(run)


def test_the_time_limit_is_heeded_and_a_stop_file_is_final(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    endless = ["train.steps=100000", "train.save_every=0", "train.eval_every=100"]
    # The shortest limit is minutes, and SLURM may send its signal a minute early.
    job = submitted(run, *TWO_RANKS, *endless, "launch.time_limit=2")
    wait_for_start(2, run)
    assert "stopped by SIGUSR1" in said(run)
    saved = starts(run)[1]["saved"]
    assert saved > 0
    wait_for(lambda: last_step(run) > saved, run, "steps after the limit")
    (run / "STOP").touch()
    wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", run, "the job's end")
    assert "does not restart: the run directory has a STOP file" in said(run)
    refused = phalanx("train", run_dir=run)
    assert refused.status == 2
    assert "STOP" in refused.errors
    until = f"train.stop_after={RunFolder(run).saved_step()}"
    undisturbed = undisturbed_run(tmp_path, *endless, until, "layout=pp2")
    assert same_rows(run) == same_rows(undisturbed)


def test_a_job_that_is_preempted_goes_on_when_there_is_room(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    undisturbed = undisturbed_run(tmp_path, *STEPS, "layout=pp2")
    run = tmp_path / "run"
    job = submitted(run, *TWO_RANKS, *STEPS, "launch.partition=main")
    wait_for(lambda: last_step(run) >= 3, run, "the first steps")
    urgent = cluster.run(
        *("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive"),
        *("--output=/dev/null", "--wrap=sleep 5"),
    )
    wait_for(lambda: cluster.job(int(urgent))["JobState"] == "COMPLETED", run, "the urgent job")
    wait_for_start(2, run)
    assert starts(run)[1]["saved"] % 40  # what came first was a signal, which was heeded
    wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", run, "the job's end")
    assert same_rows(run) == same_rows(undisturbed)


@pytest.mark.parametrize("chain", ["array", "dependency"])
def test_a_chain_of_jobs_is_one_run(cluster: SlurmCluster, tmp_path: Path, chain: str) -> None:
    undisturbed = undisturbed_run(tmp_path, *STEPS, "layout=pp2")
    run = tmp_path / "run"
    links = [f"launch.chain={chain}", "launch.jobs=3"]
    job = submitted(run, *TWO_RANKS, *STEPS, *links)
    wait_for(lambda: last_step(run) >= 3, run, "the first steps")
    # All of an array would be told by its number. SLURM 22.05 tells the one task, and exits with 1.
    with suppress(RuntimeError):
        cluster.run("scancel", "--signal=USR1", starts(run)[0]["job"])
    wait_for(lambda: (run / "DONE").exists(), run, "the end")
    wait_for(lambda: "nothing to do: the run is done" in said(run), run, "the last job")
    wait_for(lambda: str(job) not in cluster.run("squeue", "--noheader"), run, "an empty queue")
    assert "stopped by SIGUSR1" in said(run)
    assert [start["restart"] for start in starts(run)] == [0, 0]
    assert len({start["job"] for start in starts(run)}) == 2
    assert same_rows(run) == same_rows(undisturbed)


def test_a_node_where_ranks_are_killed_again_is_left_out(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    one_node = ["cluster.nodes=1", "layout=single", "train.save_every=2", "train.steps=100000"]
    job = submitted(run, *TWO_RANKS, *one_node)
    for number in (1, 2):
        wait_for_progress(number, run)
        os.kill(ranks_of(run)[0].pid, signal.SIGKILL)
    wait_for_progress(3, run)
    nodes = [start["nodes"] for start in starts(run)]
    assert nodes[0] == nodes[1]
    assert nodes[2] != nodes[0]
    assert f"left out from now on: {nodes[0]}" in said(run)
    assert cluster.job(job)["ExcNodeList"] == nodes[0]
    (run / "STOP").touch()
    wait_for(lambda: cluster.job(job)["JobState"] == "FAILED", run, "the job's end")


def test_thirty_kills_at_random_moments_lose_no_step_and_repeat_none(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    chance = random.Random(6)
    run = tmp_path / "run"
    endless = ["train.steps=100000", "train.save_every=7", "train.eval_every=20"]
    often = ["launch.max_restarts=1000", "launch.max_idle_starts=1000"]
    job = submitted(run, *TWO_RANKS, *endless, *often)
    for kill in range(1, KILLS + 1):
        wait_for_start(kill, run)
        if chance.random() < 0.3:  # while it starts
            time.sleep(chance.uniform(0, 8))
        else:
            wait_for_steps(run)
            time.sleep(chance.uniform(0, 3))
        _kill_one(run, chance)
    wait_for_progress(KILLS + 1, run)
    (run / "STOP").touch()
    wait_for(lambda: cluster.job(job)["JobState"] == "FAILED", run, "the job's end")
    steps = [row["step"] for row in read_lines(run / "metrics.jsonl") if "loss" in row]
    last = RunFolder(run).saved_step()
    assert steps == list(range(1, last + 1))
    undisturbed = undisturbed_run(tmp_path, *endless, f"train.stop_after={last}", "layout=pp2")
    assert same_rows(run) == same_rows(undisturbed)


def test_a_script_submitted_twice_trains_once(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Two jobs of one run on two nodes, again and again, at random distances and with kills."""
    chance = random.Random(19)
    run = tmp_path / "run"
    one_node = ["cluster.nodes=1", "layout=single", "train.save_every=7", "train.steps=100000"]
    one_node += ["train.eval_every=0", "launch.max_restarts=0", "launch.submit=false"]
    written = phalanx("prepare", *TINY)
    assert written.status == 0, written.errors
    written = phalanx("train", *TINY, *TWO_RANKS, *one_node, run_dir=run)
    assert written.status == 0, written.errors
    for pair in range(PAIRS):
        jobs = []
        for _ in range(2):
            jobs.append(int(cluster.run("sbatch", "--parsable", str(run / "job.sbatch"))))
            time.sleep(chance.uniform(0, 4))
        wait_for(lambda: len(_ended(cluster, jobs)) == 1, run, "one to be refused")  # noqa: B023
        [refused] = _ended(cluster, jobs)
        [owner] = set(jobs) - {refused}
        [says] = (run / "logs").glob(f"slurm-{refused}.out")
        assert f"job {owner} on node" in says.read_text()
        assert "does not start: run_dir=" in says.read_text()
        wait_for_start(pair + 1, run)
        assert int(starts(run)[-1]["job"]) == owner
        wait_for_steps(run)
        time.sleep(chance.uniform(0, 2))
        _kill_one(run, chance)
        wait_for(lambda: len(_ended(cluster, jobs)) == 2, run, "the other's end")  # noqa: B023
    steps = [row["step"] for row in read_lines(run / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, len(steps) + 1))
    last = RunFolder(run).saved_step()
    until = [f"train.stop_after={last + 3}", "launch=local"]
    done = phalanx("train", *until, run_dir=run)
    assert done.status == 0, done.errors
    undisturbed = undisturbed_run(tmp_path, *one_node[1:4], *until[:1], "train.eval_every=0")
    assert [row["step"] for row in same_rows(run)] == list(range(1, last + 4))
    assert len(same_rows(undisturbed)) == last + 3
    for mine, its in zip(same_rows(run), same_rows(undisturbed), strict=True):
        assert mine == pytest.approx(its, rel=1e-6)  # a job's rank has one thread


def _ended(cluster: SlurmCluster, jobs: list[int]) -> list[int]:
    return [job for job in jobs if cluster.job(job)["JobState"] in ENDED]


def _kill_one(run: Path, chance: random.Random) -> None:
    """A rank or an agent, whichever are there by now."""
    while True:
        found = [*ranks_of(run), *agents_of(run)]
        if found:
            try:
                chance.choice(found).kill()
            except psutil.NoSuchProcess:
                continue
            return
        time.sleep(0.05)
