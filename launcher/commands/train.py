"""`phalanx train`: checks the run, prints its layout, starts its ranks.

Under torchrun (`torchrun --nproc-per-node 4 -m launcher.train ...`) every process composes the same
configuration and is itself one of the ranks; only rank 0 writes and prints.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from configs.errors import InputError
from configs.schema import Run
from corpus.prepare.workers import die_with_parent
from corpus.store.prepared import Prepared
from launcher.command_line.compose import hydra_app
from launcher.console.run_tables import layout_table, layout_text, run_summary, shown
from launcher.console.tables import print_lines, print_table
from launcher.failure.heartbeat import owner
from launcher.failure.watchdog import Watchdog
from launcher.huggingface.notices import notices
from launcher.run import versions
from launcher.run.changes import changes, keep_schedule, lines, require_meant
from launcher.run.corpus import (
    NotPrepared,
    corpus_name,
    corpus_of_run,
    corpus_to_train_on,
    mixture_table,
    notes,
)
from launcher.run.ownership import owning
from launcher.run.resolve import ResolvedRun, resolve, starts_here
from launcher.run.run_dir import (
    RunFolder,
    begun,
    checkpoint_to_load,
    choose_folder,
    last_step,
    require_same_run,
    resolved,
    state_of,
)
from launcher.start.local import outcome
from launcher.start.registry import LAUNCHERS
from parallel.checkpoint.manifest import TrainState
from parallel.engines.registry import ENGINES

if TYPE_CHECKING:
    from launcher.training.signals import Signals


def train(run: Run, overrides: list[str]) -> None:
    """Resolves and prepares the run, then starts its ranks; under torchrun, runs as a rank."""
    if "RANK" in os.environ:
        _train_as_rank(run, overrides)
        return
    asked, run = run, begun(run, overrides)
    plan = resolve(run).noting(notices(asked, run))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    folder = choose_folder(plan)
    launcher = LAUNCHERS[plan.run.launch.name]
    launcher.validate(plan, folder)
    new = not folder.config.exists()
    with owning(folder.path, plan.run.launch.lease_s):
        plan_or_none = prepare(plan, run, folder, overrides, console)
        if plan_or_none is None:
            return
        plan = plan_or_none
        if launcher.waits:
            launcher.start(plan, folder, console)
            if new:  # what is typed to go on with a run does not say all of it
                from launcher.console.next_steps import next_steps

                console.print(next_steps(plan.run, folder.path, overrides))
            return
    launcher.start(plan, folder, console)  # its ranks take over the run directory


def prepare(
    plan: ResolvedRun, requested: Run, folder: RunFolder, overrides: list[str], console: Console
) -> ResolvedRun | None:
    """Prepares the run once, before its ranks start. Returns None if there is nothing to do.

    The returned plan keeps the learning rates of a resumed run. Raises InputError for text,
    checkpoints and folders that cannot be used, and for unconfirmed changes to a run.

    Args:
        requested: the settings before `plan` resolved them.
        overrides: those of this start.
    """
    checkpoint = checkpoint_to_load(plan, folder)
    if checkpoint is not None:
        state = state_of(checkpoint, plan)
        require_same_run(plan, state, checkpoint)
        if state.step >= last_step(plan.run):
            if folder.config.exists():
                for line in lines(changes(folder.resolved(), plan.run)):
                    console.print(f"{line} (not taken)")
            console.print(
                f"nothing to do: {shown(checkpoint)} is of step {state.step} of "
                f"{last_step(plan.run)}; a larger train.steps goes on",
            )
            return None
        console.print(f"going on from {shown(checkpoint)}")
        if state.step and folder.checkpoints in checkpoint.parents:
            plan, requested = go_on(plan, requested, state, folder, overrides, console)
    elif folder.config.exists() and folder.metrics.exists():
        console.print(f"starts over: {shown(folder.path)} has no checkpoint")
    prepared = corpus_of_run(plan.run, folder) if checkpoint is not None else None
    missing = ""
    if prepared is None:
        prepared, missing = _corpus(plan, overrides, console)
    if checkpoint is not None and prepared is not None:
        require_same_text(plan.run, prepared, state, checkpoint)
    print_table(console, layout_table(plan.shape, plan.layout))
    if prepared is not None:
        print_table(console, mixture_table(plan.run, prepared))
        for line in notes(plan.run, prepared, begun=checkpoint is not None):
            console.print(line)
    print_lines(console, "\n".join([*plan.notes, run_summary(plan, prepared, folder.path)]))
    if missing:
        console.print(f"missing  {missing}")
    run = resolved(plan.run, folder, checkpoint)
    folder.write(run, requested, layout_text(plan.shape, plan.layout))
    if prepared is not None:
        folder.write_corpus(prepared.folder)
    folder.forget_end()
    if (given := engine_config(plan)) is not None:
        folder.write_engine_config(plan.run.engine.name, given)
    return plan


def engine_config(plan: ResolvedRun) -> dict[str, Any] | None:
    """The configuration passed to the engine; None if it takes none.

    Raises InputError if it is invalid.
    """
    kind = ENGINES[plan.run.engine.name]
    if kind.config is None:
        return None
    given: dict[str, Any] = kind.load("config")(plan.run, plan.shape, plan.layout, plan.device)
    return given


def _corpus(
    plan: ResolvedRun, overrides: list[str], console: Console
) -> tuple[Prepared | None, str]:
    """The run's corpus; None with the reason if a script or command is only printed."""
    try:
        return corpus_to_train_on(plan, overrides, console), ""
    except NotPrepared as error:
        if plan.run.launch.submit or starts_here(plan.run):
            raise
        return None, str(error)


def require_same_text(run: Run, prepared: Prepared, state: TrainState, checkpoint: Path) -> None:
    """Raises InputError if a checkpoint was trained on another corpus."""
    if state.corpus not in ("", prepared.fingerprint):
        raise InputError(
            f"corpus {corpus_name(run)}: checkpoint={checkpoint} was trained on other text, "
            "and would go on with other data; give that text, or another run_dir"
        )


def go_on(
    plan: ResolvedRun,
    requested: Run,
    state: TrainState,
    folder: RunFolder,
    overrides: list[str],
    console: Console,
) -> tuple[ResolvedRun, Run]:
    """Prints changes since the last start. Raises InputError if one needs confirmation."""
    before = folder.resolved()
    found = changes(before, plan.run)
    require_meant(found, state.step, plan.run, overrides)
    plan, requested, schedule = keep_schedule(before, plan, requested, state, overrides)
    for line in (*lines(found), schedule, versions.changed(folder.read_versions())):
        if line:
            console.print(line)
    return plan, requested


def _train_as_rank(run: Run, overrides: list[str]) -> None:
    """Rank 0 prepares while the others wait; then all read what it wrote."""
    from launcher.start.world import noting_failure
    from launcher.training.signals import Signals

    rank = int(os.environ["RANK"])
    signals = Signals(run.launch.signal)
    die_with_parent(owner())  # a rank must not outlive its agent
    # A new run has no directory yet; its failures are only printed.
    logs = RunFolder(Path(run.run_dir or "/nowhere").expanduser()).logs
    watchdog = Watchdog(logs, rank, run.launch.grace_s)
    with noting_failure(logs, rank):
        _train_in_world(run, overrides, rank, signals, watchdog)


def _train_in_world(
    run: Run, overrides: list[str], rank: int, signals: Signals, watchdog: Watchdog
) -> None:
    from launcher.start.world import joined_world
    from launcher.training.broadcast import broadcast_from_rank0

    asked, run = run, begun(run, overrides)
    plan = resolve(run).noting(notices(asked, run))
    console = Console(soft_wrap=True, highlight=False, markup=False, quiet=rank != 0)
    with joined_world(plan.run, watchdog) as device, ExitStack() as owned:
        watchdog.stop()  # preparing text has no limit

        def begin() -> str | None:
            folder = choose_folder(plan)
            owned.enter_context(owning(folder.path, plan.run.launch.lease_s))
            found = prepare(plan, run, folder, overrides, console)
            return None if found is None else str(folder.path)

        path = broadcast_from_rank0(begin)
        if path is None:
            return
        folder = RunFolder(Path(path))
        # Imported after joining the world, which silences the warnings of these imports.
        from configs.load import read
        from launcher.training.trainer import train_session

        train_session(read(folder.config), folder, device, sys.stdout, signals, watchdog)
        console.print(outcome(folder))


app = hydra_app(train)
