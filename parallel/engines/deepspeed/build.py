"""Builds a rank's DeepSpeed engine, and the configuration that DeepSpeed takes.

Imports no torch until an engine is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from configs.schema import DeviceName, Run
from models.shape import ModelShape
from parallel.engines.deepspeed.config import deepspeed_config
from parallel.layout import Layout

if TYPE_CHECKING:
    from parallel.engines.deepspeed.engine import DeepSpeedEngine
    from parallel.runtime.device import Device


@contextmanager
def running(run: Run, layout: Layout, device: Device) -> Iterator[DeepSpeedEngine]:
    """The engine; requires the process groups of `layout` for its lifetime. Collective."""
    from parallel.engines.deepspeed.engine import DeepSpeedEngine
    from parallel.engines.deepspeed.groups import deepspeed_world

    with deepspeed_world():
        engine = DeepSpeedEngine(
            ModelShape.of(run.model),
            layout,
            run.optimizer,
            run.engine,
            precision=run.precision,
            device=device,
            seed=run.train.seed,
            global_batch=run.train.global_batch,
            cuda=run.cuda,
            restart_positions=run.train.restart_positions,
        )
        with closing(engine):
            yield engine


def config_of(run: Run, shape: ModelShape, layout: Layout, device: DeviceName) -> dict[str, Any]:
    """DeepSpeed's configuration. Raises InputError if it is not possible."""
    return deepspeed_config(
        shape,
        layout,
        run.optimizer,
        run.engine,
        precision=run.precision,
        device=device,
        global_batch=run.train.global_batch,
    )
