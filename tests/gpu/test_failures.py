"""On several GPUs: a rank that is killed, and one that hangs, is named by the failure report."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from launcher.run.jsonl import read_lines
from tests.cli import phalanx
from tests.gpu.kit import Check
from tests.gpu.machine import Machine
from tests.launcher.failure.test_failures import WITHIN_S, rank_processes, wait_for

pytestmark = pytest.mark.gpu

TIMEOUT_S, GRACE_S = 10, 2
REHEARSED_S = 4  # a step of the rehearsal takes a fraction of one
# Dense: a kernel that is compiled for the first time holds a rank up for as long.
TRAIN = [
    "train",
    "layout=tp2",
    "layout.micro_batch=2",
    "model.attention=dense",
    "train.steps=100000",
    f"launch.grace_s={GRACE_S}",
]
# None while the rank is stopped: saving has no time limit.
NO_CHECKPOINT = "train.save_every=100000"


def steps_of(run: Path) -> int:
    path = run / "metrics.jsonl"
    return len(list(read_lines(path))) if path.exists() else 0


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_the_rank_is_named(machine: Machine, check: Check, tmp_path: Path, how: str) -> None:
    machine.needs_ranks(2)
    run = tmp_path / "run"
    limit = TIMEOUT_S if machine.is_cuda else REHEARSED_S
    settings = [
        *machine.settings,
        f"device={machine.device}",
        f"launch.timeout_s={limit}",
        NO_CHECKPOINT,
    ]
    process = phalanx.start(*TRAIN, *settings, run_dir=run)
    try:
        wait_for(lambda: steps_of(run) >= 3 or process.poll() is not None)
        ranks = rank_processes(process.pid)
        assert sorted(ranks) == [0, 1], process.communicate()[1]
        ranks[1].send_signal(signal.Signals[how])
        began = time.monotonic()
        _, errors = process.communicate(timeout=WITHIN_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    check.note("told after, s", time.monotonic() - began)
    assert process.returncode == 1, errors
    if how == "SIGKILL":
        assert "rank 1 was ended by SIGKILL" in errors
    else:
        assert f"rank 1 did not answer: rank 0 waited {limit} s (" in errors
    assert (run / "failure.txt").is_file()
    assert not any(rank.is_running() for rank in ranks.values())
