"""From a run to its engine, under the run's layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from configs.schema import EngineName, Run
from models.shape import ModelShape
from parallel.engines.base import Engine
from parallel.layout import Layout
from parallel.runtime.device import Device
from parallel.runtime.process_groups import process_groups


@contextmanager
def running_engine(run: Run, device: Device) -> Iterator[Engine]:
    """This rank's engine, and the process groups it lives in. Collective."""
    layout = Layout.resolve(run.layout, None)
    with process_groups(layout, run.train.seed, run.launch.timeout_s):
        if run.engine.name is EngineName.deepspeed:
            with _deepspeed(run, device) as engine:
                yield engine
        else:
            yield _megatron(run, device)


# Each engine is imported when it is asked for: neither is quick to import.


def _megatron(run: Run, device: Device) -> Engine:
    from parallel.engines.megatron.engine import MegatronEngine

    return MegatronEngine(
        ModelShape.of(run.model),
        Layout.resolve(run.layout, None),
        run.optimizer,
        precision=run.precision,
        device=device,
        seed=run.train.seed,
    )


@contextmanager
def _deepspeed(run: Run, device: Device) -> Iterator[Engine]:
    from parallel.engines.deepspeed.engine import DeepSpeedEngine
    from parallel.engines.deepspeed.groups import deepspeed_world

    with deepspeed_world():
        engine = DeepSpeedEngine(
            ModelShape.of(run.model),
            Layout.resolve(run.layout, None),
            run.optimizer,
            run.engine,
            precision=run.precision,
            device=device,
            seed=run.train.seed,
            global_batch=run.train.global_batch,
        )
        with closing(engine):
            yield engine
