"""What a process tells the system when it opens its device."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from configs.schema import DeviceName
from tests.pool import RankPool


def policies() -> dict[str, set[int]]:
    """A job: how this rank's threads are scheduled, by name."""
    import torch

    torch.distributed.barrier()  # which needs gloo's threads
    found: dict[str, set[int]] = {}
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/comm", encoding="utf-8") as file:
            name = file.read().strip()
        found.setdefault(name, set()).add(os.sched_getscheduler(int(thread)))
    return found


def is_allowed() -> bool:
    """Whether this system has batches, and no sandbox forbids them."""
    ask = "import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))"
    return not subprocess.run([sys.executable, "-c", ask], capture_output=True).returncode


@pytest.mark.skipif(not is_allowed(), reason="threads cannot be scheduled in batches here")
def test_gloos_threads_preempt_nobody(ranks: RankPool) -> None:
    for found in ranks.run(2, policies):
        assert found["gloo_tcp_loop"] == {os.SCHED_BATCH}
        assert os.SCHED_BATCH in found["python"]


@pytest.mark.parametrize("name", [DeviceName.cpu, DeviceName.cuda])
def test_gloo_connects_when_it_first_sends(
    name: DeviceName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA too, where it coordinates saves beside NCCL."""
    from parallel.runtime import cpu_bridge, device, pair_allreduce

    # They would stay for all tests that this process runs later.
    for module in (cpu_bridge, pair_allreduce):
        monkeypatch.setattr(module, "install", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many threads as before
    monkeypatch.delenv("TORCH_GLOO_LAZY_INIT", raising=False)
    for does in ("_open_gpu", "_keep_freed_memory", "_yield_to_lock_holders"):
        monkeypatch.setattr(device, does, lambda *_: None)
    device.open_device(name, 0, 1)
    assert os.environ["TORCH_GLOO_LAZY_INIT"] == "1"
