"""`phalanx parity layout=A against=B`: do two layouts, or two engines, train the same model?

`against=NAME` is a layout; `against.SETTING=VALUE` any setting of the other run, as in
`against.engine=deepspeed against.layout.zero=3`. Both runs are ordinary trainings of a few steps
that save after each step; losses, gradient norms and every tensor are then compared.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from configs.errors import InputError, RunError
from configs.schema import Precision, Run
from launcher.command_line.compose import composed_run, hydra_app
from launcher.command_line.explain import explain
from launcher.commands.train import prepare
from launcher.console.tables import print_table
from launcher.run.jsonl import read_lines
from launcher.run.ownership import owning
from launcher.run.resolve import ResolvedRun, resolve
from launcher.run.run_dir import RunFolder
from launcher.start.local import require_local, run_ranks
from parallel.batch_schedule import steps_of
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState

if TYPE_CHECKING:
    from torch import Tensor

    from parallel.parity import Comparison, Tolerance, Trace

MAY_DIFFER = ("layout", "engine", "precision", "device", "cluster", "cuda", "launch")
_ROUGHNESS = (Precision.float32, Precision.fp16, Precision.bf16, Precision.fp8)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs being compared."""

    name: str  # the name of its folder, also used in the report
    plan: ResolvedRun

    def __str__(self) -> str:
        run, layout = self.plan.run, self.plan.layout
        ranks = "1 rank" if layout.world_size == 1 else f"{layout.world_size} ranks"
        return (
            f"layout {layout}{', DualPipeV' if layout.dualpipev else ''}, {ranks}, "
            f"micro-batch {layout.micro_batch}, ZeRO {layout.zero}, "
            f"engine {run.engine.name} on {self.plan.device}, {run.precision}"
        )


def app() -> None:
    """Removes `against` from the arguments and runs the command on the rest."""
    mine, against = split_arguments(sys.argv[1:])
    sys.argv[1:] = mine
    hydra_app(lambda run, overrides: parity(run, overrides, against))()


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The run's arguments, and the overrides that `against` gives for the other run."""
    mine, against = [], []
    for argument in arguments:
        if argument.startswith("against."):
            against.append(argument.removeprefix("against."))
        elif argument.startswith("against="):
            against.append(f"layout={argument.removeprefix('against=')}")
        else:
            mine.append(argument)
    return mine, against


def parity(run: Run, overrides: list[str], against: list[str]) -> None:
    """Trains both and prints their differences. Raises RunError if they differ."""
    if not against:
        raise InputError(
            "against: there is nothing to compare with; nearest: against=tp2_pp2 (a layout) or "
            "against.engine=deepspeed (any setting)"
        )
    other = _compose_other(run, overrides, against)
    _require_same_training(run, other, against)
    sides = [
        _side("run", run),
        _side("against", other),
    ]
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with _folder(run) as base:
        for side in sides:
            console.print(f"{side.name}: {side}")
            _train(side, RunFolder(base / side.name))
        roughest = max((side.plan.run.precision for side in sides), key=_ROUGHNESS.index)
        judge(RunFolder(base / "run"), RunFolder(base / "against"), roughest, console)


def judge(run: RunFolder, against: RunFolder, precision: Precision, console: Console) -> None:
    """Compares two finished runs and prints their differences. Raises RunError if they differ."""
    from parallel.parity import Tolerance, compare

    tolerance = Tolerance.of(precision)
    comparison = compare(_trace(run), _trace(against), tolerance)
    print_table(console, _table(comparison))
    console.print(_verdict(comparison, tolerance))
    if not comparison.agrees:
        raise RunError(f"the two runs are not the same; {_first_fault(comparison)}")


def _require_same_training(run: Run, other: Run, against: list[str]) -> None:
    fields = [name for name in Run.__dataclass_fields__ if name not in MAY_DIFFER]
    if all(getattr(run, name) == getattr(other, name) for name in fields):
        return
    setting = next(
        override for override in against if re.split(r"[.=]", override)[0] not in MAY_DIFFER
    )
    raise InputError(
        f"against.{setting}: parity compares the same training under another "
        f"{', '.join(MAY_DIFFER[:-1])} or {MAY_DIFFER[-1]}; nearest: {setting} for both"
    )


def _compose_other(run: Run, overrides: list[str], against: list[str]) -> Run:
    try:
        return composed_run(run, overrides, against)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        raise InputError(f"against.{explained}") from None


def _side(name: str, run: Run) -> Side:
    """The first few steps of the run, exactly as the full run would take them."""
    first = 0
    if run.checkpoint is not None:
        first = TrainState.read(manifest.find(Path(run.checkpoint).expanduser())).step
    train = replace(
        run.train,
        stop_after=min(first + run.parity.steps, steps_of(run)),
        save_every=1,
        keep_checkpoints=0,
        eval_every=0,
    )
    log = replace(run.log, tensorboard=False, wandb=False)
    plan = resolve(replace(run, train=train, log=log, run_dir=None))
    require_local(plan, "parity")
    return Side(name, plan)


@contextmanager
def _folder(run: Run) -> Iterator[Path]:
    """`run_dir`, which keeps both runs for inspection, or a temporary folder."""
    if run.run_dir is None:
        with tempfile.TemporaryDirectory(prefix="phalanx-parity-") as scratch:
            yield Path(scratch)
        return
    base = Path(run.run_dir).expanduser().resolve()
    for name in ("run", "against"):
        if (base / name).exists():
            raise InputError(f"run_dir={run.run_dir}: holds runs already; give another")
    yield base


def _train(side: Side, folder: RunFolder) -> None:
    launch = side.plan.run.launch
    with owning(folder.path, launch.lease_s):
        prepare(side.plan, side.plan.run, folder, [], Console(quiet=True, markup=False))
        run_ranks("train", folder, side.plan.layout, launch)


def _trace(folder: RunFolder) -> Trace:
    from parallel.parity import Trace

    steps = [row for row in read_lines(folder.metrics) if "loss" in row]
    return Trace(
        losses=[row["loss"] for row in steps],
        # null where fp16 skipped a step.
        grad_norms=[math.inf if it is None else it for it in (r["grad_norm"] for r in steps)],
        tensors=_Saved(folder.checkpoints, [row["step"] for row in steps]),
    )


class _Saved(Mapping[int, "dict[str, Tensor]"]):
    """The tensors after each step, read from disk on access."""

    def __init__(self, checkpoints: Path, steps: list[int]) -> None:
        self.folders = [manifest.step_folder(checkpoints, step) for step in steps]

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        from parallel.checkpoint.tensors import read_tensors
        from parallel.parity import KINDS

        return read_tensors(self.folders[number], tuple(KINDS))

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.folders)))

    def __len__(self) -> int:
        return len(self.folders)


def _table(comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("step", "loss", "against", "differs", "grad norm", "against", "differs", ""):
        table.add_column(heading, justify="right")
    for row in comparison.steps:
        table.add_row(
            str(row.step + 1),
            *(f"{loss:.6f}" for loss in row.losses),
            f"{row.loss:.1e}",
            *(f"{norm:.6f}" for norm in row.grad_norms),
            f"{row.grad_norm:.1e}",
            Text("ok", "green") if row.agrees else Text("no", "red"),
        )
    return table


def _verdict(comparison: Comparison, tolerance: Tolerance) -> str:
    allowed = (
        f"tolerance (relative): loss and gradient norm {tolerance.first_step:g} at the first step, "
        f"{tolerance.steps:g} after it; tensors {tolerance.tensors:g}"
    )
    if comparison.first is not None:
        return f"{allowed}\nfirst tensor that differs: {comparison.first}"
    return f"{allowed}\nno tensor differs; the largest difference: {comparison.largest}"


def _first_fault(comparison: Comparison) -> str:
    if comparison.first is not None:
        return f"first the {comparison.first}"
    row = next(row for row in comparison.steps if not row.agrees)
    return (
        f"step {row.step + 1} differs by {row.loss:.1e} in loss and {row.grad_norm:.1e} in "
        "gradient norm"
    )
