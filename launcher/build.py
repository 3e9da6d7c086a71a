"""From a run to its engine, under the run's layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from configs.schema import Run
from models.shape import ModelShape
from parallel.devices import Device
from parallel.groups import process_groups
from parallel.layout import Layout
from parallel.megatron_engine import MegatronEngine


@contextmanager
def running_engine(run: Run, device: Device) -> Iterator[MegatronEngine]:
    """This rank's engine, and the process groups it lives in. Collective."""
    layout = Layout.resolve(run.layout, None)
    with process_groups(layout, run.train.seed):
        yield MegatronEngine(
            ModelShape.of(run.model),
            layout,
            run.optimizer,
            precision=run.precision,
            device=device,
            seed=run.train.seed,
        )
