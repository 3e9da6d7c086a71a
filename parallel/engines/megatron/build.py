"""Builds a rank's Megatron-core engine from a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from configs.schema import Run
from models.shape import ModelShape
from parallel.engines.megatron.engine import MegatronEngine
from parallel.engines.megatron.tensor_overlap import overlapping
from parallel.layout import Layout
from parallel.runtime.device import Device


@contextmanager
def running(run: Run, layout: Layout, device: Device) -> Iterator[MegatronEngine]:
    """The engine; requires the process groups of `layout` for its lifetime. Collective."""
    shape = ModelShape.of(run.model)
    with overlapping(shape, layout, run.precision) if run.cuda.tensor_overlap else nullcontext():
        yield MegatronEngine(
            shape,
            layout,
            run.optimizer,
            precision=run.precision,
            device=device,
            seed=run.train.seed,
            cuda=run.cuda,
            restart_positions=run.train.restart_positions,
        )
