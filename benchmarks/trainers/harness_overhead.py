"""What the harness adds to a training step: `python -m benchmarks.trainers.harness_overhead`.

The harness is `launcher.training.trainer.train_session` as every rank of `phalanx train` runs it:
the loop, its callbacks (metrics file, TensorBoard, progress), samples read from the token
files, generators seeded, the loss averaged over all ranks. Against it a bare loop over tensors made
beforehand. For engine=megatron: the same model and optimizer, gradients to zero, Megatron-core's
schedule, the optimizer's step. For engine=deepspeed: a DeepSpeed engine around the same model,
which clips by itself, driven as DeepSpeed's documentation says. The bare loop also runs against
itself, which shows how small a difference can be seen; and what the harness spends outside the
engine's step is told from its own clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from rich.console import Console

from benchmarks import paired
from benchmarks.trainers.turns import threads_of
from configs.load import read
from launcher.command_line.compose import compose_run
from launcher.commands.train import prepare
from launcher.failure.watchdog import Watchdog
from launcher.run.resolve import resolve
from launcher.run.run_dir import RunFolder
from launcher.start.world import joined_world
from launcher.training.signals import Signals

WARM_UP = 2  # rounds


def main() -> None:
    options = _options()
    if options.folder is None:
        sys.exit(_start(options))
    _compare(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layout", default="", help="such as tensor=2,pipeline=2; else one rank")
    parser.add_argument("--engine", default="megatron", choices=("megatron", "deepspeed"))
    parser.add_argument("--model", default="gpt3_nano")
    parser.add_argument("--rounds", type=int, default=42)
    parser.add_argument("--steps", type=int, default=1, help="of each block in a round")
    parser.add_argument("--bar", action="store_true", help="draw the progress bar, not lines")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # a rank's run directory
    return parser.parse_args()


def _start(options: argparse.Namespace) -> int:
    """Prepares a run as `phalanx train` does, then starts its ranks."""
    overrides = [
        f"model={options.model}",
        f"engine={options.engine}",
        "layout=single",
        "device=cpu",
        *(f"layout.{size}" for size in options.layout.split(",") if size),
        # One step more than are taken: what is done at the last one is no part of a step.
        f"train.steps={(WARM_UP + options.rounds) * options.steps + 1}",
        "train.eval_every=0",
        "train.save_every=0",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary) / "run")
        plan = resolve(compose_run([*overrides, f"run_dir={folder.path}"]))
        prepare(plan, plan.run, folder, overrides, Console(markup=False, quiet=True))
        ranks = plan.layout.world_size
        threads = threads_of(ranks)
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        again = [
            "benchmarks.trainers.harness_overhead",
            *sys.argv[1:],
            "--folder",
            str(folder.path),
        ]
        command = [sys.executable, "-m", *torchrun, "-m", *again]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        return subprocess.run(command, env=environment).returncode


def _compare(options: argparse.Namespace) -> None:
    """One rank's part: a training session up to its loop, and there the two loops in turn."""
    folder = RunFolder(options.folder)
    run = read(folder.config)
    watchdog = Watchdog(folder.logs, int(os.environ["RANK"]), run.launch.grace_s)
    with joined_world(run, watchdog) as device, (folder.logs / "terminal").open("w") as file:
        from benchmarks.trainers.harness_loops import Comparison
        from launcher.training import trainer

        compare = Comparison(run, device, options.rounds, options.steps, WARM_UP)
        with patch.object(trainer, "train_loop", compare):
            terminal = _Terminal() if options.bar else file
            signals = Signals(run.launch.signal)
            trainer.train_session(run, folder, device, terminal, signals, watchdog)
    if os.environ["RANK"] == "0":
        shown = "progress bar" if options.bar else "progress lines"
        layout = options.layout or "single"
        title = f"{run.model.name}, engine {options.engine}, layout {layout}, {shown}"
        paired.show(compare.result, title)
        whole = statistics.median(compare.result.seconds["harness"])
        print(
            f"harness outside the engine's step: {1000 * compare.outside:.2f} ms a step, "
            f"{compare.outside / whole:.2%}"
        )


class _Terminal(StringIO):
    """What a progress bar takes for a terminal."""

    def isatty(self) -> bool:
        return True


if __name__ == "__main__":
    main()
