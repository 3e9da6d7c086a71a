"""The tracing dry run: the engine's own code builds one rank and runs a step on fake tensors."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from configs.errors import InputError
from configs.schema import DeviceName, Run
from configs.settings.cuda import LayerKind
from models.shape import ModelShape
from parallel.engines.base import Batch
from parallel.engines.registry import ENGINES
from parallel.layout import Coordinates, Layout
from parallel.planner.communication.traffic import Traffic, steps_to_settle
from parallel.planner.trace.collective_counter import counting
from parallel.planner.trace.fake_world import fake_device, fake_world
from parallel.planner.trace.memory_tracker import Category, Storages


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTrace:
    """Memory and communication of one rank in a step other than the first."""

    rank: int
    stage: int
    parameters: int  # elements of the model on this rank, both copies of a tied embedding
    traffic: list[Traffic]
    model_bytes: int  # before the step: weights, optimizer state and permanent buffers
    peak_bytes: int
    at_peak: dict[Category, int]  # bytes; they add up to peak_bytes
    operations: int  # of torch


def traced_ranks(layout: Layout) -> list[int]:
    """One rank of each kind of stage: the first, an inner one, and that of the logits."""
    stages = {0, min(1, layout.pipeline - 1), layout.logits_stage, layout.pipeline - 1}
    return [layout.rank(Coordinates(pipeline=stage)) for stage in sorted(stages)]


def trace(run: Run, layout: Layout, rank: int, *, device: DeviceName) -> RankTrace:
    """Builds the engine of `rank` and runs one step of the run's global batch.

    Adam's moments and the like appear in the first step, so one or two short ones precede it.

    Args:
        device: whose settings the engine gets; nothing runs on any device.

    Raises:
        InputError: the optimizer is offloaded; host memory cannot be distinguished from the rest.
    """
    if run.engine.offload_optimizer:
        raise InputError("plan.trace=true cannot follow engine.offload_optimizer=true")
    # Transformer Engine's kernels do not take fake tensors.
    run = replace(
        run, cuda=replace(run.cuda, layers=LayerKind.local), precision=run.precision.stored
    )
    shape = ModelShape.of(run.model)
    storages = Storages(logits_width=shape.vocab_on_rank(layout.tensor))
    with fake_world(layout.world_size, rank, device):
        first = _batch(shape, layout, _fewest_micro_batches(layout))
        batch = _batch(shape, layout, layout.micro_batches(run.train.global_batch))
        with storages, storages.watching_modules(), _engine(run, shape, layout, device) as engine:
            for _ in range(steps_to_settle(layout)):
                engine.train_step(first, run.optimizer.learning_rate)
            with _gradients_told(engine, storages), counting(layout) as counts:
                _tell_model(engine, storages)
                storages.restart_peak()
                model_bytes, before = storages.live_bytes, storages.operations
                engine.train_step(batch, run.optimizer.learning_rate)
            traced = RankTrace(
                rank=rank,
                stage=layout.coordinates(rank).pipeline,
                parameters=sum(part.shape.numel() for part in engine.parameters()),
                traffic=counts.traffic(),
                model_bytes=model_bytes,
                peak_bytes=storages.peak_bytes,
                at_peak=storages.at_peak(),
                operations=storages.operations - before,
            )
    return traced


@contextmanager
def _engine(run: Run, shape: ModelShape, layout: Layout, device: DeviceName) -> Iterator[Any]:
    """This rank's engine, built as for training."""
    from parallel.planner.trace.fake_experts import even_choices
    from parallel.runtime.process_groups import process_groups

    kind = ENGINES[run.engine.name]
    with process_groups(layout, run.train.seed), ExitStack() as stack:
        if kind.tracing is not None:
            stack.enter_context(kind.load("tracing")(shape, layout, run.precision))
        stack.enter_context(even_choices(shape, layout, device))
        with redirect_stdout(io.StringIO()):  # it prints this process's memory
            engine = stack.enter_context(kind.load("build")(run, layout, fake_device(device)))
        yield engine


def _batch(shape: ModelShape, layout: Layout, micro_batches: int) -> Batch:
    tokens = [
        torch.zeros(layout.micro_batch, shape.context + 1, dtype=torch.long)
        for _ in range(micro_batches)
    ]
    return Batch(micro_batches=tokens)


def _fewest_micro_batches(layout: Layout) -> int:
    """That the schedule takes."""
    if layout.dualpipev:
        return 2 * layout.pipeline
    return layout.pipeline if layout.interleave > 1 else 1


def _tell_model(engine: Any, storages: Storages) -> None:
    """Labels the memory that outlives steps."""
    own = [named.tensor for named in engine.named_tensors()]
    # Megatron's experts have an optimizer of their own.
    chained = getattr(engine.optimizer, "chained_optimizers", [])
    adams = [each.optimizer for each in chained] or [engine.adam]
    groups = [group for adam in adams for group in adam.param_groups]
    masters = [tensor for group in groups for tensor in group["params"]]
    moments = [each for adam in adams for state in adam.state.values() for each in state.values()]
    storages.label(_only_tensors([*masters, *moments]), Category.optimizer)
    storages.label(_gradients_of([*own, *masters]), Category.gradients)
    for chunk in getattr(engine, "chunks", []):  # Megatron's
        buffers = chunk.buffers + chunk.expert_parallel_buffers
        storages.label([buffer.grad_data for buffer in buffers], Category.gradients)
    # Last: without copies in float32 they are their own masters.
    storages.label(own, Category.parameters)
    storages.label(_only_tensors(getattr(p, "ds_tensor", None) for p in own), Category.parameters)


def _gradients_of(parameters: Iterable[Any]) -> Iterator[Tensor]:
    """The gradients, wherever Megatron and DeepSpeed keep them."""
    for parameter in parameters:
        for name in ("grad", "main_grad", "grad_accum", "_hp_grad"):
            yield from _only_tensors([getattr(parameter, name, None)])


def _only_tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    return (value for value in values if isinstance(value, Tensor))


@contextmanager
def _gradients_told(engine: Any, storages: Storages) -> Iterator[None]:
    """Labels new gradients of the backward pass, to distinguish them from other memory."""

    def made(parameter: Tensor) -> None:
        storages.label(_gradients_of([parameter]), Category.gradients, Category.buffers)

    hooks = [
        named.tensor.register_post_accumulate_grad_hook(made) for named in engine.named_tensors()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
