"""Trains a tiny model on random tokens under a layout: what the engine tests compare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.schema import (
    DeviceName,
    EngineConfig,
    EngineName,
    OptimizerConfig,
    OptimizerName,
    Precision,
)
from configs.settings.cuda import CudaConfig
from models.shape import ModelShape, to_json
from parallel.checkpoint.manifest import TrainState
from parallel.layout import Layout
from parallel.parity import Trace

# A vocabulary that is mostly padding on the last of four tensor ranks, and an odd number of tokens
# in the window.
SHAPE = ModelShape(layers=4, hidden=32, heads=4, context=16, vocab=130, window=5)
GLOBAL_BATCH = 8
SEED = 7
ADAM = OptimizerConfig(
    learning_rate=3e-3,
    min_learning_rate_fraction=0.1,
    warmup_tokens=0,
    decay_tokens=None,
    ramp_tokens=0,
    ramp_start=1,
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.1,
    clip=0.3,  # below every gradient norm of these runs, so that it bites
    loss_scale=1024.0,
)
MUON = replace(ADAM, name=OptimizerName.muon)

MEGATRON = EngineConfig(name=EngineName.megatron, offload_optimizer=False)
DEEPSPEED = EngineConfig(name=EngineName.deepspeed, offload_optimizer=False)


@dataclass(frozen=True)
class Curve:
    """What a run did, step by step, and the whole weights it ended with."""

    losses: list[float]
    grad_norms: list[float]
    weights: dict[str, Tensor]

    def trace(self) -> Trace:
        weights = {f"master.{name}": weight for name, weight in self.weights.items()}
        last = len(self.losses) - 1
        return Trace(losses=self.losses, grad_norms=self.grad_norms, tensors={last: weights})


def network_config(
    shape: ModelShape, layout: Layout | None = None, *, restart_positions: bool = False
) -> Any:
    """What the layers of a network are built from, in float32 on a CPU."""
    from parallel.engines.cuda_features import cuda_features
    from parallel.engines.megatron.config import transformer_config

    layout, cuda = layout or Layout(), CudaConfig()
    here = Precision.float32, DeviceName.cpu
    features = cuda_features(cuda, layout, EngineName.megatron, *here)
    return transformer_config(
        shape, layout, *here, cuda, features, restart_positions=restart_positions
    )


@contextmanager
def engine(
    layout: Layout,
    precision: Precision = Precision.float32,
    shape: ModelShape = SHAPE,
    config: EngineConfig = MEGATRON,
    optimizer: OptimizerConfig | None = None,
    *,
    restart_positions: bool = False,
) -> Iterator[Any]:
    from parallel.runtime.device import Device
    from parallel.runtime.process_groups import process_groups

    cuda = torch.distributed.get_backend() == "nccl"
    device = (
        Device(DeviceName.cuda, torch.device("cuda", torch.cuda.current_device()), "nccl")
        if cuda
        else Device(DeviceName.cpu, torch.device("cpu"), "gloo")
    )
    common: dict[str, Any] = {"precision": precision, "device": device, "seed": SEED}
    common["restart_positions"] = restart_positions
    with process_groups(layout, SEED):
        if config.name is EngineName.megatron:
            from parallel.engines.megatron.engine import MegatronEngine

            yield MegatronEngine(shape, layout, optimizer or ADAM, **common)
            return
        from parallel.engines.deepspeed.engine import DeepSpeedEngine
        from parallel.engines.deepspeed.groups import deepspeed_world

        with deepspeed_world():
            common["global_batch"] = GLOBAL_BATCH
            made = DeepSpeedEngine(shape, layout, optimizer or ADAM, config, **common)
            with closing(made):
                yield made


def global_batch(step: int, shape: ModelShape = SHAPE) -> Tensor:
    """[samples, context + 1] of step number `step`; easy enough to be learned."""
    generator = torch.Generator().manual_seed(step)
    start = torch.randint(0, shape.vocab, (GLOBAL_BATCH, 1), generator=generator)
    stride = torch.randint(1, 4, (GLOBAL_BATCH, 1), generator=generator)
    return (start + stride * torch.arange(shape.context + 1)) % shape.vocab


def batch_here(layout: Layout, step: int, shape: ModelShape = SHAPE) -> Any:
    """This data rank's part of the batch of a step."""
    from parallel.engines.base import Batch

    data_rank = layout.coordinates(torch.distributed.get_rank()).data
    tokens = global_batch(step, shape)
    places = layout.samples_of(data_rank, GLOBAL_BATCH)
    return Batch(micro_batches=[tokens[list(each)] for each in places])


def take_steps(engine: Any, layout: Layout, first: int, last: int) -> list[tuple[float, float]]:
    """Steps number first to last; (loss, gradient norm) of each."""
    results = []
    for step in range(first, last + 1):
        batch = batch_here(layout, step, engine.shape)
        result = engine.train_step(batch, ADAM.learning_rate)
        results.append((result.loss, result.grad_norm))
    return results


def weights_here(engine: Any) -> list[tuple[str, Any, Tensor]]:
    return [
        (named.at.name, named.at, _whole(named.tensor).float().cpu())
        for named in engine.named_tensors()
    ]


def _whole(tensor: Tensor) -> Tensor:
    """A copy of a parameter, which ZeRO 3 leaves in pieces over the data ranks."""
    if not hasattr(tensor, "ds_id"):
        return tensor.detach().clone()
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([tensor]):
        return tensor.detach().clone()


def train(
    layout: Layout,
    steps: int,
    precision: Precision = Precision.float32,
    shape: ModelShape = SHAPE,
    config: EngineConfig = MEGATRON,
) -> Any:
    """A job: (loss, gradient norm) of each step, and this rank's weights."""
    with engine(layout, precision, shape, config) as running:
        return take_steps(running, layout, 1, steps), weights_here(running)


def state_of(engine: Any, step: int) -> TrainState:
    """Where training stands after `step`."""
    return TrainState(
        step=step,
        samples=step * GLOBAL_BATCH,
        tokens=step * GLOBAL_BATCH * engine.shape.context,
        seed=SEED,
        corpus="",
        adam_step=engine.adam_step(),
        scaler=engine.scaler_state(),
        routers=engine.router_state(),
        model=to_json(engine.shape),
    )


def train_and_save(
    layout: Layout,
    first: int,
    last: int,
    folder: str,
    load: bool,
    config: EngineConfig = MEGATRON,
    precision: Precision = Precision.float32,
    shape: ModelShape = SHAPE,
    optimizer: OptimizerConfig | None = None,
) -> Any:
    """A job: loads the newest checkpoint of `folder` or begins, trains, saves under `last`."""
    from parallel.checkpoint.manifest import find
    from parallel.checkpoint.store import CheckpointStore

    with engine(layout, precision, shape, config, optimizer) as running:
        store = CheckpointStore(Path(folder), None)
        if load:
            store.load(running, find(Path(folder)))
        results = take_steps(running, layout, first, last)
        store.save(running, state_of(running, last), keep=0)
        return results, weights_here(running)


def assemble(answers: list[Any]) -> Curve:
    """Rank 0's curve and the weights of all ranks put together; every copy must be the same."""
    steps = answers[0][0]
    for results, _ in answers:
        assert results == steps, "ranks disagree about a loss or a gradient norm"
    shards: dict[str, dict[int, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for _, weights in answers:
        for name, at, tensor in weights:
            known = shards.setdefault(name, {}).setdefault(at.part.index, tensor)
            assert torch.equal(known, tensor), f"copies of {name} differ"
            if at.part.dim is None:
                whole[name] = tensor
                continue
            into = whole.setdefault(name, torch.full(at.whole, torch.nan))
            dim = at.part.dim
            for piece in at.part.pieces(at.whole[dim], at.shape[dim]):
                shard = tensor.narrow(dim, piece.at, piece.size)
                into.narrow(dim, piece.start, piece.size).copy_(shard)
    return Curve([loss for loss, _ in steps], [norm for _, norm in steps], whole)
