"""Builds a run's engine under its layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from configs.schema import Run
from parallel.engines.base import Engine
from parallel.engines.registry import ENGINES
from parallel.layout import Layout
from parallel.runtime.device import Device
from parallel.runtime.process_groups import process_groups


@contextmanager
def running_engine(run: Run, layout: Layout, device: Device) -> Iterator[Engine]:
    """This rank's engine, and the process groups it needs. Collective."""
    build = ENGINES[run.engine.name].load("build")  # imported lazily: engines are slow to import
    with (
        process_groups(layout, run.train.seed, run.launch.timeout_s, graphs=run.cuda.graphs),
        build(run, layout, device) as engine,
    ):
        yield engine
