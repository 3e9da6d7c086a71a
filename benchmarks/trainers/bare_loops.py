"""What a step of each engine cannot do without, on tensors that are there already."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from configs.schema import EngineName, Run
from launcher.training.data_loader import Batches
from launcher.training.loop import StepSchedule
from models.shape import ModelShape
from parallel.engines.base import Engine
from parallel.engines.cuda_features import cuda_features
from parallel.engines.megatron.config import transformer_config
from parallel.layout import Layout
from parallel.runtime.device import Device

BATCHES = 4  # made beforehand, used in turn
MicroBatch = tuple[Tensor, Tensor, Tensor]  # tokens, labels and positions, each [B, T]


class BareMegatron:
    """The engine's own chunks and optimizer under Megatron-core's schedule."""

    def __init__(self, engine: Any, batches: Iterator[list[MicroBatch]]) -> None:
        from megatron.core.pipeline_parallel import get_forward_backward_func

        self._chunks = engine.chunks
        self._optimizer = engine.optimizer
        self._schedule = get_forward_backward_func()
        self._batches = batches

    def __call__(self, steps: int) -> None:
        chunks = self._chunks
        for micro_batches in itertools.islice(self._batches, steps):
            samples, length = micro_batches[0][0].shape
            for chunk in chunks:
                chunk.zero_grad_buffer()
            self._optimizer.zero_grad()
            iterators = [iter(micro_batches) for _ in chunks]
            self._schedule(
                forward_step_func=_forward,
                data_iterator=iterators if len(chunks) > 1 else iterators[0],
                model=chunks if len(chunks) > 1 else chunks[0],
                num_microbatches=len(micro_batches),
                seq_length=length,
                micro_batch_size=samples,
                forward_only=False,
            )
            self._optimizer.step()


class BareDeepSpeed:
    """The same model in a DeepSpeed engine of its own, as DeepSpeed's documentation drives one.

    DeepSpeed clips, by its own norm, and torch's AdamW updates.
    """

    def __init__(self, run: Run, device: Device, batches: Iterator[list[MicroBatch]]) -> None:
        import deepspeed

        from parallel.engines.deepspeed.config import deepspeed_config
        from parallel.engines.deepspeed.groups import TensorAndDataRanks
        from parallel.engines.deepspeed.model import build_pipeline, build_whole
        from parallel.engines.deepspeed.optimizer import build_optimizer

        shape, layout = ModelShape.of(run.model), Layout.resolve(run.layout, None)
        config = deepspeed_config(
            shape,
            layout,
            run.optimizer,
            run.engine,
            precision=run.precision,
            device=device.name,
            global_batch=run.train.global_batch,
        )
        config["gradient_clipping"] = run.optimizer.clip
        features = cuda_features(run.cuda, layout, run.engine.name, run.precision, device.name)
        megatron = transformer_config(shape, layout, run.precision, device.name, run.cuda, features)
        seed = run.train.seed
        self._pipeline = layout.pipeline > 1
        model: Any
        if self._pipeline:
            model, parameters = build_pipeline(shape, layout, megatron, device, seed)
        else:
            model, parameters = build_whole(shape, layout, megatron, device, seed, config)
        adam, _ = build_optimizer(parameters, run.optimizer, run.engine, run.precision, device)
        self._engine: Any = deepspeed.initialize(
            model=model,
            optimizer=adam,
            config=config,
            mpu=None if self._pipeline else TensorAndDataRanks(),
            dist_init_required=False,
        )[0]
        self._batches = batches

    def __call__(self, steps: int) -> None:
        engine = self._engine
        for micro_batches in itertools.islice(self._batches, steps):
            if self._pipeline:
                engine.train_batch(iter([(tokens, labels) for tokens, labels, _ in micro_batches]))
                continue
            for inputs, labels, positions in micro_batches:
                engine.backward(engine(inputs, positions, None, labels=labels).mean())
                engine.step()


def bare_loop(
    run: Run, engine: Engine, device: Device, batches: Batches, schedule: StepSchedule
) -> BareMegatron | BareDeepSpeed:
    size = schedule.batch_plan.global_batch
    made = [batches.at(number * size, size).micro_batches for number in range(BATCHES)]
    ready = itertools.cycle([[_ready(tokens) for tokens in batch] for batch in made])
    if run.engine.name is EngineName.deepspeed:
        return BareDeepSpeed(run, device, ready)
    return BareMegatron(engine, ready)


def _ready(tokens: Tensor) -> MicroBatch:
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return inputs, labels, torch.arange(inputs.shape[1]).expand_as(inputs)


def _forward(micro_batches: Iterator[MicroBatch], model: Any) -> tuple[Tensor, Any]:
    inputs, labels, positions = next(micro_batches)
    return model(inputs, positions, None, labels=labels), _mean


def _mean(losses: Tensor) -> tuple[Tensor, Tensor]:
    loss = losses.mean()
    return loss, loss
