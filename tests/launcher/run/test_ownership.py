"""One owner of a run directory at a time, whoever is killed, asleep or lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import pytest

from configs.errors import InputError, RunError
from launcher.run import ownership
from launcher.run.ownership import Holder, Lease, owner_of, owning, release_of_job, take_for_job

LEASE_S = 60.0
ELSEWHERE = {"host": "node9", "machine": "another boot 1", "pid": 4, "started": 1.0}


def job(number: int, restart: int = 0) -> dict[str, str]:
    return {"SLURM_JOB_ID": str(number), "SLURM_RESTART_COUNT": str(restart)}


def held_elsewhere(run_dir: Path, **holder: object) -> Lease:
    """By a process of another machine, of which only the lease is seen."""
    me = Holder.of_this_process(LEASE_S, {}, process=True)
    lease = ownership._take(run_dir, me)
    return lease.write(replace(me, **{**ELSEWHERE, **holder}))  # type: ignore[arg-type]


def aged(lease: Lease, seconds: float) -> None:
    path = ownership._path(lease.folder, lease.number)
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    with owning(tmp_path, LEASE_S, {}):
        assert f"process {os.getpid()}" in (owner_of(tmp_path) or "")
        with pytest.raises(InputError, match=rf"run_dir=.*process {os.getpid()} on .* has it"):
            ownership._take(tmp_path, Holder.of_this_process(LEASE_S, {}, process=True))
    assert owner_of(tmp_path) is None
    with owning(tmp_path, LEASE_S, {}) as lease:
        assert lease.number == 2


def test_only_one_of_many_gets_it(tmp_path: Path) -> None:
    together = Barrier(8)

    def start(number: int) -> int:
        me = replace(Holder.of_this_process(LEASE_S, {}, process=True), host=f"node{number}")
        together.wait()
        try:
            return ownership._take(tmp_path, me).number
        except InputError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        for round in range(1, 6):
            got = sorted(pool.map(start, range(8)))
            assert got == [0] * 7 + [round]
            newest = Lease.newest(tmp_path)
            assert newest is not None
            newest.write(replace(newest.holder, released=True))


def test_a_dead_process_of_this_machine_has_nothing(tmp_path: Path) -> None:
    sleeper = (
        "import sys, time\nfrom pathlib import Path\nfrom launcher.run.ownership import owning\n"
        "with owning(Path(sys.argv[1]), 60, {}):\n    print('mine', flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", sleeper, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mine\n"
        assert f"process {process.pid}" in (owner_of(tmp_path) or "")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with owning(tmp_path, LEASE_S, {}) as lease:
        assert lease.number == 2


def test_a_lost_node_has_it_until_its_lease_is_over(tmp_path: Path) -> None:
    lease = held_elsewhere(tmp_path)
    aged(lease, 50)
    with pytest.raises(InputError, match=r"on node9 .* free in (9|10) s"):
        ownership._take(tmp_path, Holder.of_this_process(LEASE_S, {}, process=True))
    aged(lease, 11)
    with owning(tmp_path, LEASE_S, {}) as mine:
        assert mine.number == lease.number + 1
        # It was only asleep, and finds out.
        assert lease.is_lost()
        with pytest.raises(RunError, match=f"was taken over by process {os.getpid()}"):
            lease.require()
        mine.require()


def test_an_owner_renews_its_lease(tmp_path: Path) -> None:
    with owning(tmp_path, 0.6, {}) as lease:
        aged(lease, 100)
        until = time.monotonic() + 10
        while lease.age_s() > 0.6:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_requeued_job_is_the_same_owner(tmp_path: Path) -> None:
    first = take_for_job(tmp_path, LEASE_S, job(7))
    with owning(tmp_path, LEASE_S, job(7)) as lease:  # its rank 0
        assert lease.number == first.number
        newest = Lease.newest(tmp_path)
        assert newest is not None
        newest.write(replace(newest.holder, **ELSEWHERE))  # type: ignore[arg-type]
    again = take_for_job(tmp_path, LEASE_S, job(7, restart=1))
    assert again.number == first.number + 1
    with pytest.raises(InputError, match="job 7"):
        ownership._take(tmp_path, Holder.of_this_process(LEASE_S, {}, process=True))
    release_of_job(tmp_path, job(8))
    assert owner_of(tmp_path) is not None, "another job's end is none of it"
    release_of_job(tmp_path, job(7, restart=1))
    assert owner_of(tmp_path) is None


def test_a_job_in_a_job_is_refused(tmp_path: Path) -> None:
    with (
        owning(tmp_path, LEASE_S, job(7)),
        pytest.raises(InputError, match=f"process {os.getpid()} of job 7"),
    ):
        ownership._take(tmp_path, Holder.of_this_process(LEASE_S, job(7), process=True))


def test_the_next_job_waits_for_a_lost_node_and_not_for_a_live_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_LOOK_S", 0.05)
    lease = held_elsewhere(tmp_path, job="7", lease_s=0.5)
    assert take_for_job(tmp_path, LEASE_S, job(8)).number == lease.number + 1
    release_of_job(tmp_path, job(8))
    lease = held_elsewhere(tmp_path, job="7")
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(take_for_job, tmp_path, LEASE_S, job(8))
        time.sleep(0.2)
        lease.renew()
        with pytest.raises(InputError, match="job 7 on node9"):
            refused.result(timeout=10)


def test_a_lease_that_was_being_written_is_somebodys(tmp_path: Path) -> None:
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "00000003.json").write_text("{")
    with pytest.raises(InputError, match="somebody"):
        ownership._take(tmp_path, Holder.of_this_process(LEASE_S, {}, process=True))


def test_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    run_dir = tmp_path / "new"

    def refused() -> None:
        with owning(run_dir, LEASE_S, {}):
            raise InputError("its text is not there")

    with pytest.raises(InputError):
        refused()
    assert not run_dir.exists()


def _write(run_dir: Path, log: Path, stop: float, seed: int) -> None:
    """Starts again and again at random distances; notes when it owned."""
    import random

    dice = random.Random(seed)
    while time.time() < stop:
        try:
            with owning(run_dir, 5.0, {}), log.open("a") as file:
                begun = time.monotonic()
                time.sleep(dice.random() / 50)
                if dice.random() < 0.2:
                    file.write(f"{begun} {time.monotonic()}\n")
                    file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                file.write(f"{begun} {time.monotonic()}\n")
        except InputError:
            time.sleep(dice.random() / 100)


def test_owners_never_overlap_whoever_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    log, stop = tmp_path / "log", time.time() + 4

    def start(seed: int) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=_write, args=(tmp_path / "run", log, stop, seed))
        process.start()
        return process

    seeds = iter(range(10_000))
    alive = [start(next(seeds)) for _ in range(4)]
    while time.time() < stop:
        time.sleep(0.01)
        alive = [each if each.is_alive() else start(next(seeds)) for each in alive]
    for each in alive:
        each.join(20)
        assert not each.is_alive()
    owned = sorted(tuple(map(float, line.split())) for line in log.read_text().splitlines())
    assert len(owned) > 20
    assert all(mine[1] <= after[0] for mine, after in pairwise(owned))
