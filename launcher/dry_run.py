"""`phalanx train --dry-run`: checks and prints everything a run would, and writes nothing."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

from rich.console import Console

from configs.errors import InputError
from configs.override import override, shell_command
from configs.schema import DeviceName, Run
from corpus.prepare.prepare import prepared_before
from corpus.store.prepared import Prepared
from launcher.command_line.compose import hydra_app
from launcher.commands.train import engine_config, go_on, require_same_text
from launcher.console.plan_summary import summary
from launcher.console.run_tables import layout_table, run_summary, shown
from launcher.console.tables import print_lines, print_table
from launcher.huggingface.notices import notices
from launcher.run.corpus import NotPrepared, corpus_of_run, corpus_to_train_on, mixture_table, notes
from launcher.run.ownership import Lease
from launcher.run.resolve import ResolvedRun, resolve, starts_here
from launcher.run.run_dir import (
    RunFolder,
    begun,
    checkpoint_to_load,
    choose_folder,
    last_step,
    require_same_run,
    state_of,
)
from launcher.run.settings import lasts
from launcher.start.registry import LAUNCHERS
from parallel.planner.plan import Plan as Cost


def dry_run(run: Run, overrides: list[str]) -> None:
    """Raises InputError for anything the run itself would be refused for; if that is its corpus,
    which may be on another machine, everything else is printed first.
    """
    if os.environ.get("RANK", "0") != "0":  # under torchrun only rank 0 prints
        return
    asked, run = run, begun(run, overrides)
    plan = resolve(run).noting(notices(asked, run))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    folder = choose_folder(plan)
    plan, begins, prepared, fault = _begins(plan, run, folder, overrides, console)
    print_table(console, layout_table(plan.shape, plan.layout))
    if prepared is not None:
        print_table(console, mixture_table(plan.run, prepared))
        has_weights = plan.run.checkpoint is not None or folder.has_checkpoint()
        for line in notes(plan.run, prepared, begun=has_weights):
            console.print(line)
    print_lines(console, "\n".join([*plan.notes, run_summary(plan, prepared, folder.path)]))
    console.print(f"starts   {begins}")
    lease = Lease.newest(folder.path)
    if lease is not None and not lease.holder.released and not lease.holder.is_dead():
        console.print(f"held     by {lease.holder}, unless that is gone")
    engine_config(plan)
    how, *commands = LAUNCHERS[plan.run.launch.name].describe(plan, folder)
    console.print(f"launch   {how}")
    for line in commands:
        console.print(line, end="" if line.endswith("\n") else "\n")
    _show_cost(plan, folder, overrides, console)
    console.print("dry run: nothing was started or written")
    if fault is not None:
        raise fault


def _begins(
    plan: ResolvedRun, requested: Run, folder: RunFolder, overrides: list[str], console: Console
) -> tuple[ResolvedRun, str, Prepared | None, InputError | None]:
    """The plan of the run, where it starts from, its corpus, and what is wrong with the corpus."""
    checkpoint = checkpoint_to_load(plan, folder)
    if checkpoint is None:
        new = (
            "with new weights"
            if not folder.config.exists()
            else "from the start: no checkpoint is there"
        )
        return plan, new, *_corpus(plan, folder, overrides, console)
    state, last = state_of(checkpoint, plan), last_step(plan.run)
    require_same_run(plan, state, checkpoint)
    begins = f"going on from {shown(checkpoint)}, after step {state.step} of {last}"
    if state.step >= last:
        begins = (
            f"nothing to do: {shown(checkpoint)} is of step {state.step} of {last}; "
            "a larger train.steps goes on"
        )
    elif state.step and folder.checkpoints in checkpoint.parents:
        plan, _ = go_on(plan, requested, state, folder, overrides, console)
    prepared, fault = _corpus(plan, folder, overrides, console)
    if prepared is not None:
        require_same_text(plan.run, prepared, state, checkpoint)
    return plan, begins, prepared, fault


def _corpus(
    plan: ResolvedRun, folder: RunFolder, overrides: list[str], console: Console
) -> tuple[Prepared | None, InputError | None]:
    """The run's corpus if it is prepared, and the reason the run would be refused."""
    run = plan.run
    try:
        if folder.has_checkpoint() and (before := corpus_of_run(run, folder)) is not None:
            return before, None
        if plan.device is not DeviceName.cuda and starts_here(run):  # it prepares the corpus itself
            return prepared_before(run.corpus, run.model, run.contamination), None
        return corpus_to_train_on(plan, overrides, console), None
    except NotPrepared as fault:
        if run.launch.submit or starts_here(run):
            return None, fault
        console.print(f"missing  {fault}")
        return None, None
    except InputError as fault:
        return None, fault


def _show_cost(
    plan: ResolvedRun, folder: RunFolder, overrides: list[str], console: Console
) -> None:
    """Prints the planner's estimate, if it knows the machine."""
    same = [each for each in overrides if lasts(each) and not each.startswith("launch")]
    if folder.config.exists():
        same.insert(0, override("run_dir", shown(folder.path)))
    more = shell_command("phalanx", "plan", *same)
    try:
        planned = summary(Cost.of(plan.run, plan.layout, plan.device))
    except InputError as error:
        console.print(f"cost     not known: {error}")
        return
    # A CPU's step time cannot be predicted.
    known = ("memory", "step", "speed") if plan.device is DeviceName.cuda else ("memory",)
    for line in planned.splitlines():
        if line.split()[0] in known:
            console.print(line)
    console.print(f"cost     {more} shows more")


composed = hydra_app(dry_run)


def app() -> None:
    """Hydra writes output for each --multirun job, here to a temporary folder."""
    if "--multirun" in sys.argv:
        folder = tempfile.mkdtemp(prefix="phalanx-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        sys.argv.append(f"hydra.sweep.dir={folder}")
    composed()
