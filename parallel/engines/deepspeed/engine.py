"""The `deepspeed` engine: its pipelines and ZeRO around Megatron-core's layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.pipe.schedule import ForwardPass, ReduceTiedGrads
from megatron.core import parallel_state
from torch import Tensor, nn

from configs.schema import EngineConfig, EngineName, OptimizerConfig, Precision
from configs.settings.cuda import CudaConfig
from models.shape import ModelShape
from models.training.pipeline import CurrentDocuments
from parallel.engines.base import Batch, StepResult
from parallel.engines.cuda_features import cuda_features
from parallel.engines.deepspeed.config import deepspeed_config
from parallel.engines.deepspeed.experts import scale_auxiliary_losses, tell_of_experts
from parallel.engines.deepspeed.groups import TensorAndDataRanks
from parallel.engines.deepspeed.model import build_pipeline, build_whole, set_parameter
from parallel.engines.deepspeed.optimizer import build_optimizer
from parallel.engines.deepspeed.optimizer_state import optimizer_state
from parallel.engines.grad_norm import clip_by_global_norm
from parallel.engines.inputs import inputs_of
from parallel.engines.megatron.config import layer_notices, transformer_config
from parallel.engines.muon import Muon
from parallel.engines.named_parameters import NamedParameter
from parallel.engines.optimizer_state import ExpertsApart
from parallel.engines.state import EngineState
from parallel.layout import Layout
from parallel.runtime.device import Device
from parallel.runtime.process_groups import copies_group, expert_copies_group


class DeepSpeedEngine(EngineState):
    """Trains this rank's stage, or its full model. Requires `process_groups` and
    `deepspeed_world` for its lifetime.
    """

    def __init__(
        self,
        shape: ModelShape,
        layout: Layout,
        optimizer: OptimizerConfig,
        engine: EngineConfig,
        *,
        precision: Precision,
        device: Device,
        seed: int,
        global_batch: int,
        cuda: CudaConfig | None = None,
        restart_positions: bool = False,
    ) -> None:
        cuda = cuda or CudaConfig()
        self.shape = shape
        self.layout = layout
        self.device = device
        self.clip = optimizer.clip
        config = deepspeed_config(
            shape,
            layout,
            optimizer,
            engine,
            precision=precision,
            device=device.name,
            global_batch=global_batch,
        )
        features = cuda_features(cuda, layout, EngineName.deepspeed, precision, device.name)
        megatron = transformer_config(
            shape,
            layout,
            precision,
            device.name,
            cuda,
            features,
            restart_positions=restart_positions,
        )
        self.restart_positions = restart_positions
        self._documents = megatron.documents = CurrentDocuments()
        self.model: nn.Module
        if layout.pipeline > 1:
            self.model, parameters = build_pipeline(shape, layout, megatron, device, seed)
        else:
            self.model, parameters = build_whole(shape, layout, megatron, device, seed, config)
            _sum_as_they_come(_of_partial_gradients(parameters, shape, layout))
            tell_of_experts(self.model, parameters, shape.moe.experts)
        adam, notices = build_optimizer(parameters, optimizer, engine, precision, device)
        self.notices = [*layer_notices(device.name, cuda), *notices]
        self._grad_norm = math.nan
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=self.model,
            optimizer=adam,
            config=config,
            mpu=None if layout.pipeline > 1 else TensorAndDataRanks(),
            dist_init_required=False,
        )
        if layout.pipeline > 1:
            self.engine._INSTRUCTION_MAP = {
                **self.engine._INSTRUCTION_MAP,
                ForwardPass: partial(
                    _forward_within, self._documents, self.engine._INSTRUCTION_MAP[ForwardPass]
                ),
                ReduceTiedGrads: partial(
                    _reduce_over_the_model, _of_partial_gradients(parameters, shape, layout)
                ),
            }
        if self.optimizer is adam:
            adam.register_step_pre_hook(self._clip)
        if precision is Precision.fp16:
            self.optimizer.loss_scaler.cur_scale = optimizer.loss_scale
        routers = megatron.router_state
        others = [named for named in parameters if not named.at.expert]
        state = optimizer_state(self.optimizer, adam, others, copies_group())
        if isinstance(adam, Muon):
            adam.tell(parameters, state, shape)
        if routers is not None:
            experts = [named for named in parameters if named.at.expert]
            state = ExpertsApart(
                state, optimizer_state(self.optimizer, adam, experts, expert_copies_group())
            )
        super().__init__(parameters, adam, state, routers)

    def close(self) -> None:
        """Releases references that would keep the engine and its process groups alive."""
        self.engine.destroy()

    def _clip(self, *_adam: Any) -> None:
        self._grad_norm = clip_by_global_norm(self._parameters, self.clip)

    def _set(self, named: NamedParameter, value: Tensor) -> None:
        set_parameter(named, value)

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Runs DeepSpeed's pipeline, or each micro-batch in turn without one. Collective."""
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        samples = len(batch.micro_batches) * self.layout.micro_batch * self.layout.copies
        if samples != self.engine.train_batch_size():
            self.engine.set_train_batch_size(samples)
        loss_scale = self._loss_scale()
        loss = self._train_pipeline(batch) if self.layout.pipeline > 1 else self._train_whole(batch)
        skipped = not self.engine.was_step_applied()
        norm = (
            self._grad_norm if self.optimizer is self.adam else self.engine.get_global_grad_norm()
        )
        return StepResult(
            loss=loss,
            grad_norm=math.inf if skipped else float(norm),
            skipped=skipped,
            loss_scale=loss_scale,
            routing=self.end_routing(),
        )

    def _train_pipeline(self, batch: Batch) -> float:
        return float(self.engine.train_batch(self._pairs(batch)))

    def _pairs(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """For the first stage and the last, which read; all are told where documents begin."""
        # Now, not when the first pair is asked for: inner stages ask for none.
        self._documents.coming = iter(batch.starts or ())
        inputs = (inputs_of(samples, samples.device) for samples in batch.micro_batches)
        return ((tokens, labels) for tokens, labels, _ in inputs)

    def _train_whole(self, batch: Batch) -> float:
        self.engine.train()
        total = torch.zeros((), device=self.device.torch_device)
        last = len(batch.micro_batches) - 1
        scale_auxiliary_losses(self.layout.context, last + 1)
        for number, (samples, starts) in enumerate(batch.with_starts()):
            # Set explicitly, since a growing batch would desynchronize DeepSpeed's own count.
            self.engine.set_gradient_accumulation_boundary(number == last)
            loss = self._loss(samples, starts)
            total += loss.detach()
            self.engine.backward(loss)
            self.engine.step()
        return self._mean_over_copies(total / len(batch.micro_batches))

    def _loss(self, samples: Tensor, starts: Tensor | None) -> Tensor:
        """The mean over this rank's tokens."""
        restarting = starts if self.restart_positions else None
        tokens, labels, positions = inputs_of(samples, self.device.torch_device, restarting)
        return self.engine(tokens, positions, starts, labels=labels).float().mean()

    def _mean_over_copies(self, loss: Tensor) -> float:
        # Of as many tokens on each rank, so that the mean of their means is that of all.
        if self.layout.copies > 1:
            torch.distributed.all_reduce(loss, group=copies_group())
        return float(loss) / self.layout.copies

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> float:
        """Mean loss in nats over all data ranks, forward only. Collective."""
        count = len(batch.micro_batches)
        if self.layout.pipeline > 1:
            pairs = self._pairs(batch)
            return float(self.engine.eval_batch(pairs, num_micro_batches=count))
        self.engine.eval()
        total = sum((self._loss(*each) for each in batch.with_starts()), torch.zeros(()))
        return self._mean_over_copies(total / count)

    def _scaler(self) -> Any:
        return self.optimizer.loss_scaler if self.engine.fp16_enabled() else None

    def _loss_scale(self) -> float:
        scaler = self._scaler()
        return 1.0 if scaler is None else float(scaler.cur_scale)

    def scaler_state(self) -> dict[str, float]:
        """Megatron's names: steps since the last overflow, overflows until the scale shrinks."""
        scaler = self._scaler()
        if scaler is None:
            return {}
        since = scaler.cur_iter - scaler.last_overflow_iter - 1
        return {
            "scale": float(scaler.cur_scale),
            "growth_tracker": float(since % scaler.scale_window),
            "hysteresis_tracker": float(scaler.cur_hysteresis),
        }

    def load_scaler_state(self, state: dict[str, float]) -> None:
        """Translates from Megatron's names; does nothing without fp16 or for an empty state."""
        scaler = self._scaler()
        if scaler is None or not state:
            return
        scaler.cur_scale = state["scale"]
        scaler.last_overflow_iter = scaler.cur_iter - int(state["growth_tracker"]) - 1
        scaler.cur_hysteresis = max(int(state["hysteresis_tracker"]), 1)


def _forward_within(
    documents: CurrentDocuments, forward: Callable[..., None], engine: Any, **more: Any
) -> None:
    """DeepSpeed's forward pass of the next micro-batch: every stage takes them in order."""
    documents.starts_BT = next(documents.coming, None)
    forward(engine, **more)


def _reduce_over_the_model(partly: list[nn.Parameter], engine: Any) -> None:
    """Sums gradients held in parts by several ranks of one model: a pipeline's step before the
    reduction over data ranks.

    Replaces DeepSpeed's own, which ignores float32 sums of fp16 gradients and does not support
    sequence parallelism.
    """
    for weight, group in engine.module.get_tied_weights_and_groups():
        torch.distributed.all_reduce(_accumulated(weight), group=group)
    gradients = [_accumulated(weight) for weight in partly]
    if gradients:
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        group = parallel_state.get_tensor_model_parallel_group()
        torch.distributed.all_reduce(flat, group=group)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, whole in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(whole.view_as(gradient))


def _accumulated(weight: nn.Parameter) -> Tensor:
    """A parameter's accumulated gradient, wherever DeepSpeed's optimizers keep it."""
    kept = (getattr(weight, name, None) for name in ("grad_accum", "_hp_grad", "grad"))
    return next(gradient for gradient in kept if gradient is not None)


def _sum_as_they_come(partly: list[nn.Parameter]) -> None:
    """The same without a pipeline, where ZeRO 2 and 3 consume gradients as they are produced."""
    group = parallel_state.get_tensor_model_parallel_group()

    def add_up(gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        torch.distributed.all_reduce(gradient, group=group)
        return gradient

    for parameter in partly:
        parameter.register_hook(add_up)  # type: ignore[no-untyped-call]


def _of_partial_gradients(
    parameters: list[NamedParameter], shape: ModelShape, layout: Layout
) -> list[nn.Parameter]:
    """Replicated parameters that see only the rank's tokens (sequence parallelism) or heads."""
    if layout.tensor == 1:
        return []
    return [
        named.tensor
        for named in parameters
        if getattr(named.tensor, "sequence_parallel", False)
        or shape.parameter(named.at.name).summed
    ]
