"""A rank that failed leaves without Python's teardown, which may wait for ranks that are gone."""

from __future__ import annotations

import subprocess
import sys

from tests.cli import ROOT, environment, phalanx


def test_what_was_printed_is_there_and_nothing_else_runs() -> None:
    code = (
        "import atexit, sys, time; from launcher.start.world import leave_at_once\n"
        "atexit.register(time.sleep, 60)\n"
        "print('said'); print('why', file=sys.stderr); leave_at_once(2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "said\n", "why\n")


def test_a_rank_has_its_environment_before_torch_is_imported() -> None:
    """CUDA, its allocator and NCCL read it once."""
    modules = "launcher.worker, launcher.commands.train, launcher.training.signals"
    modules += ", launcher.start.world, launcher.failure.watchdog, parallel.runtime.environment"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert phalanx.python("-c", code).status == 0
