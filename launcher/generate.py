"""`phalanx generate`: text from a checkpoint, under any tensor x pipeline layout.

`run_dir=DIR` takes the run's newest checkpoint and its layout; `checkpoint=DIR` any checkpoint.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from configs.errors import InputError
from configs.schema import LaunchName, Run, Schedule
from launcher.compose import hydra_app
from launcher.plan_ranks import plan_ranks
from launcher.run_folder import RunFolder
from parallel import checkpoint_files
from parallel.checkpoint_files import TrainState


def generate(run: Run, _overrides: list[str]) -> None:
    plan = plan_ranks(_for_inference(run))
    if plan.run.launch.name is not LaunchName.local:
        raise InputError(f"launch={plan.run.launch.name}: generate starts its own ranks")
    source = run.checkpoint or run.run_dir
    if source is None:
        raise InputError("checkpoint=null: generate needs checkpoint=DIR or run_dir=DIR")
    checkpoint = checkpoint_files.find(Path(source).expanduser())
    TrainState.read(checkpoint).require_shape(plan.shape, checkpoint)
    checkpoint_files.require_whole(checkpoint)
    if not (checkpoint / checkpoint_files.TOKENIZER).exists():
        raise InputError(f"checkpoint={checkpoint}: there is no {checkpoint_files.TOKENIZER} in it")
    from launcher.ranks import run_ranks

    with tempfile.TemporaryDirectory(prefix="phalanx-") as scratch:
        folder = RunFolder(Path(scratch))
        folder.write(replace(plan.run, checkpoint=str(checkpoint)), [], "")
        run_ranks("generate", folder, plan.layout.world_size, plan.run.launch)


def _for_inference(run: Run) -> Run:
    """The run's layout less what only training has; any layout reads any checkpoint."""
    layout = replace(
        run.layout,
        data=1,
        interleave=1,
        schedule=Schedule.standard,
        zero=0,
        sequence_parallel=False,
    )
    engine = replace(run.engine, offload_optimizer=False)
    # Batches, steps and evaluations are training's, so their rules should not stand in the way.
    return replace(run, layout=replace(layout, micro_batch=1), engine=engine)


app = hydra_app(generate)
