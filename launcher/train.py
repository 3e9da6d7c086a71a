"""`phalanx train`: checks the run, shows its layout, starts its ranks.

Under torchrun (`torchrun --nproc-per-node 4 -m launcher.train ...`) every process composes the same
configuration and is one of the ranks itself; rank 0 alone writes and speaks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from configs.errors import InputError
from configs.schema import EngineName, LaunchName, Run
from corpus.workers import die_with_parent
from launcher.cli import STOPPED, guarded
from launcher.compose import hydra_app
from launcher.corpora import (
    corpus_name,
    corpus_of_run,
    corpus_to_train_on,
    mixture_table,
)
from launcher.plan_ranks import Plan, plan_ranks
from launcher.run_folder import (
    RunFolder,
    checkpoint_to_load,
    choose_folder,
    last_step,
    require_same_run,
    resolved,
)
from launcher.show import layout_table, layout_text, run_summary, shown
from launcher.whereabouts import owner
from parallel.checkpoint_files import TrainState
from parallel.deepspeed_config import deepspeed_config

if TYPE_CHECKING:
    from launcher.stopping import Signals


def train(run: Run, overrides: list[str]) -> None:
    if "RANK" in os.environ:
        _train_as_rank(run, overrides)
        return
    plan = plan_ranks(run)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    folder = choose_folder(plan)
    if not prepare(plan, folder, overrides, console):
        return
    if plan.run.launch.name is LaunchName.slurm:
        from launcher.submit import submit

        submit(plan, folder, console)
        return
    if plan.run.launch.name is LaunchName.torchrun:
        from launcher.torchrun import start_by_torchrun

        start_by_torchrun(plan, folder, console)
        return
    _train_here(plan, folder, console)


def _train_here(plan: Plan, folder: RunFolder, console: Console) -> None:
    from launcher.ranks import run_ranks

    try:
        run_ranks("train", folder, plan.layout, plan.run.launch)
    except KeyboardInterrupt:
        if folder.stopped_by() is None:
            raise
    stopped = folder.stopped_by()
    if stopped is None:
        console.print(f"done: {shown(folder.path)}")
        return
    step, reason = stopped
    console.print(
        f"stopped by {reason} after step {step} and saved; "
        f"phalanx train run_dir={shown(folder.path)} goes on"
    )
    sys.exit(STOPPED)


def prepare(plan: Plan, folder: RunFolder, overrides: list[str], console: Console) -> bool:
    """All that is done once for a run, before its ranks begin. False: there is nothing to do.

    Raises InputError for text, checkpoints and folders that cannot be used.
    """
    checkpoint = checkpoint_to_load(plan, folder)
    if checkpoint is not None:
        state = TrainState.read(checkpoint)
        require_same_run(plan, state, checkpoint)
        if state.step >= last_step(plan.run):
            console.print(
                f"nothing to do: {shown(checkpoint)} is of step {state.step} of "
                f"{last_step(plan.run)}; a larger train.steps goes on",
            )
            return False
        console.print(f"going on from {shown(checkpoint)}")
    prepared = corpus_of_run(plan.run, folder) if checkpoint is not None else None
    if prepared is None:
        prepared = corpus_to_train_on(plan, overrides, console)
    if checkpoint is not None and state.corpus not in ("", prepared.fingerprint):
        raise InputError(
            f"corpus {corpus_name(plan.run)}: checkpoint={checkpoint} was trained on other text, "
            "and would go on with other data; give that text, or another run_dir"
        )
    console.print(layout_table(plan.shape, plan.layout))
    console.print(mixture_table(plan.run, prepared))
    console.print(run_summary(plan, prepared, folder.path))
    run = resolved(plan.run, folder, checkpoint)
    folder.write(run, overrides, layout_text(plan.shape, plan.layout))
    folder.write_corpus(prepared.folder)
    folder.forget_end()
    if run.engine.name is EngineName.deepspeed:
        folder.write_deepspeed(
            deepspeed_config(
                plan.shape,
                plan.layout,
                run.optimizer,
                run.engine,
                precision=run.precision,
                device=plan.device,
                global_batch=run.train.global_batch,
            )
        )
    return True


def _train_as_rank(run: Run, overrides: list[str]) -> None:
    """Rank 0 prepares while the others wait; all then read what it wrote."""
    from launcher.rank import noting_failure
    from launcher.stopping import Signals

    rank = int(os.environ["RANK"])
    signals = Signals(run.launch.signal)
    die_with_parent(owner())  # a rank whose agent is gone must not live on
    # A run that is new has no directory yet; what it fails with is only printed.
    logs = RunFolder(Path(run.run_dir or "/nowhere").expanduser()).logs
    with noting_failure(logs, rank):
        _train_in_world(plan_ranks(run), overrides, rank, signals)


def _train_in_world(plan: Plan, overrides: list[str], rank: int, signals: Signals) -> None:
    from launcher.agreement import agree
    from launcher.rank import joined_world

    console = Console(soft_wrap=True, highlight=False, markup=False, quiet=rank != 0)
    with joined_world(plan.run) as device:

        def begin() -> str | None:
            folder = choose_folder(plan)
            return str(folder.path) if prepare(plan, folder, overrides, console) else None

        path = agree(begin)
        if path is None:
            return
        folder = RunFolder(Path(path))
        # After the world is joined, which silences what these imports have to say.
        from configs.load import read
        from launcher.session import train_session

        train_session(read(folder.config), folder, device, sys.stdout, signals)


app = hydra_app(train)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.exit(guarded(app))
