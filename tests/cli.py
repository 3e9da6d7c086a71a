"""The command line as a user types it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configs.override import override
from tests import forked

ROOT = Path(__file__).parent.parent
TEXT = ROOT / "LICENSE"
TINY = [
    "model.layers=4",
    "model.hidden=32",
    "model.heads=4",
    "model.context=32",
    "model.window=8",
    "model.vocab=300",
    f"corpus.text={TEXT}",
    "train.global_batch=8",
    "train.eval_batches=1",
    "train.save_every=2",
    "layout.micro_batch=2",
]
TIMEOUT_S = 240


@dataclass(frozen=True)
class PhalanxResult:
    status: int
    output: str
    errors: str


class _Phalanx:
    def __call__(
        self, *arguments: str, run_dir: Path | None = None, before: Callable[[], None] | None = None
    ) -> PhalanxResult:
        """`phalanx ARGUMENTS`, forked; with `before`, which runs in it first, a new interpreter."""
        given = [*arguments, *([override("run_dir", str(run_dir))] if run_dir else [])]
        if before is not None:
            return self.python("-m", "launcher", *given, before=before)
        return PhalanxResult(*forked.run(given, environment(), ROOT, TIMEOUT_S))

    def python(self, *arguments: str, before: Callable[[], None] | None = None) -> PhalanxResult:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            env=environment(),
            cwd=ROOT,
            timeout=TIMEOUT_S,
            preexec_fn=before,
        )
        return PhalanxResult(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, run_dir: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", *arguments, override("run_dir", str(run_dir))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=ROOT,
        )


def environment() -> dict[str, str]:
    """This process's, less what the test session says about ranks and threads."""
    dropped = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "PYTHONPATH": str(ROOT)}


phalanx = _Phalanx()
