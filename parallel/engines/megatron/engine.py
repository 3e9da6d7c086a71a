"""The `megatron` engine: Megatron-core's schedules, data parallelism and optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from megatron.core.distributed import finalize_model_grads
from megatron.core.optimizer import get_megatron_optimizer, get_standard_config_overrides
from megatron.core.optimizer.optimizer_config import OptimizerConfig as MegatronOptimizerConfig
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from configs.schema import EngineName, OptimizerConfig, OptimizerName, Precision
from configs.settings.cuda import CudaConfig
from models.shape import ModelShape
from parallel.engines.base import Batch, StepResult
from parallel.engines.cuda_features import cuda_features
from parallel.engines.inputs import inputs_of
from parallel.engines.megatron import gradient_norm
from parallel.engines.megatron.config import (
    layer_notices,
    optimizer_config,
    overlaps,
    transformer_config,
)
from parallel.engines.megatron.model import build_chunks
from parallel.engines.megatron.optimizer_state import muon_groups, optimizer_state
from parallel.engines.muon import Muon
from parallel.engines.optimizer_state import ExpertsApart, OptimizerState
from parallel.engines.state import EngineState
from parallel.layout import Layout
from parallel.runtime.device import Device
from parallel.runtime.process_groups import copies_group, expert_copies_group


class MegatronEngine(EngineState):
    """Trains this rank's chunks. Requires `process_groups` for its lifetime."""

    def __init__(
        self,
        shape: ModelShape,
        layout: Layout,
        optimizer: OptimizerConfig,
        *,
        precision: Precision,
        device: Device,
        seed: int,
        cuda: CudaConfig | None = None,
        restart_positions: bool = False,
    ) -> None:
        cuda = cuda or CudaConfig()
        self.notices = layer_notices(device.name, cuda)
        self.shape = shape
        self.layout = layout
        self.device = device
        gradient_norm.install()
        self.features = cuda_features(cuda, layout, EngineName.megatron, precision, device.name)
        config = transformer_config(
            shape,
            layout,
            precision,
            device.name,
            cuda,
            self.features,
            restart_positions=restart_positions,
        )
        self.restart_positions = restart_positions
        self.chunks, parameters = build_chunks(
            shape, layout, config, precision, device, seed, self.features
        )
        settings: MegatronOptimizerConfig = optimizer_config(
            optimizer, layout, precision, device.name
        )
        muon = optimizer.name is OptimizerName.muon
        chained = get_megatron_optimizer(
            settings,
            self.chunks,
            config_overrides=muon_groups(parameters)
            if muon
            else get_standard_config_overrides(settings),
            use_gloo_process_groups=False,
        )
        # Experts are in one of their own, since other ranks hold copies of them.
        others, *experts = chained.chained_optimizers
        self.optimizer: Any = chained if experts else others
        if muon:
            # Megatron-core shards nothing but its own Adam, which has no state yet.
            others.optimizer = Muon(others.param_groups, optimizer, precision, device.name)
        else:
            self._set_adam(optimizer, chained.chained_optimizers)
        state: OptimizerState = optimizer_state(others, copies_group())
        if muon:
            others.optimizer.tell(parameters, state, shape)
        if experts:
            state = ExpertsApart(state, optimizer_state(experts[0], expert_copies_group()))
        super().__init__(parameters, others.optimizer, state, config.router_state)
        self._run_schedule = get_forward_backward_func()
        self._connect(config)

    def _set_adam(self, optimizer: OptimizerConfig, made: list[Any]) -> None:
        for each in made:
            for group in each.param_groups:
                # Megatron's own scheduler sets this; without it Adam would decay norms and biases.
                group["weight_decay"] = optimizer.weight_decay * group["wd_mult"]
                # Megatron-core uses torch's AdamW if neither Apex nor Transformer Engine is
                # installed, and not its fastest implementation.
                if isinstance(each.optimizer, torch.optim.AdamW):
                    group["fused"] = True

    def _connect(self, config: Any) -> None:
        """Tells the schedules how to scale losses and when to reduce gradients."""
        config.grad_scale_func = self.optimizer.scale_loss
        config.finalize_model_grads_func = finalize_model_grads
        if overlaps(self.layout, self.device.name):
            no_sync = [chunk.no_sync for chunk in self.chunks]
            config.no_sync_func = no_sync[0] if len(no_sync) == 1 else no_sync
        if self.features.align_param_gather:
            config.param_sync_func = [chunk.start_param_sync for chunk in self.chunks]

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Runs Megatron's schedule over the micro-batches and updates once. Collective."""
        for chunk in self.chunks:
            chunk.train()
            chunk.zero_grad_buffer()
        self.optimizer.zero_grad()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        losses = self._schedule(batch, forward_only=False)
        scaler = self._scaler()
        scale = None if scaler is None else scaler.scale  # read once the step is done
        updated, grad_norm, _ = self.optimizer.step()
        routing = self.end_routing()
        return StepResult(
            loss=self._mean_over_world(losses, len(batch.micro_batches)),
            grad_norm=float(grad_norm) if updated else math.inf,
            skipped=not updated,
            loss_scale=1.0 if scale is None else float(scale),
            routing=routing,
        )

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> float:
        """Mean loss in nats over all data ranks, forward only. Collective."""
        for chunk in self.chunks:
            chunk.eval()
            if self.features.graphs and chunk.ddp_config.overlap_param_gather:
                # A graph of a layer is replayed without the hooks that gather its parameters.
                chunk.start_param_sync(force_sync=True)
        losses = self._schedule(batch, forward_only=True)
        return self._mean_over_world(losses, len(batch.micro_batches))

    def _schedule(self, batch: Batch, *, forward_only: bool) -> list[Any]:
        """Runs Megatron's schedule; returns micro-batch losses, on the last stage only."""
        rows, length = batch.micro_batches[0].shape
        iterators = [batch.with_starts() for _ in self.chunks]
        return self._run_schedule(
            forward_step_func=self._forward_step,
            data_iterator=iterators if len(iterators) > 1 else iterators[0],
            model=self.chunks if len(self.chunks) > 1 else self.chunks[0],
            num_microbatches=len(batch.micro_batches),
            seq_length=length - 1,
            micro_batch_size=rows,
            forward_only=forward_only,
        )

    def _forward_step(
        self, micro_batches: Iterator[tuple[Tensor, Tensor | None]], model: Any
    ) -> tuple[Tensor, Callable[..., Any]]:
        samples, starts = next(micro_batches)
        restarting = starts if self.restart_positions else None
        tokens, labels, positions = inputs_of(samples, self.device.torch_device, restarting)
        losses = model(tokens, positions, starts, labels=labels)
        return losses, partial(_loss_of, self.layout.context)

    def _mean_over_world(self, losses: list[Tensor], micro_batches: int) -> float:
        # Only last stages have losses, each replicated `tensor` times; context ranks have as many
        # tokens each, so that the mean of their means is that of all.
        copies = micro_batches * self.layout.copies * self.layout.tensor
        total = torch.zeros((), dtype=torch.float64, device=self.device.torch_device)
        for loss in losses:
            total += loss
        if self.layout.world_size > 1:
            torch.distributed.all_reduce(total)
        return float(total) / copies

    def _scaler(self) -> Any:
        """The fp16 loss scaler; None for other precisions."""
        return getattr(self.optimizer, "grad_scaler", None)

    def scaler_state(self) -> dict[str, float]:
        """The scale and trackers of the fp16 loss scaler; empty in other precisions."""
        scaler = self._scaler()
        if scaler is None:
            return {}
        return {key: float(value) for key, value in scaler.state_dict().items()}

    def load_scaler_state(self, state: dict[str, float]) -> None:
        """Restores the loss scaler; does nothing without fp16 or for an empty state."""
        scaler = self._scaler()
        if scaler is None or not state:
            return
        scaler.load_state_dict(
            {
                "scale": torch.tensor([state["scale"]], device=self.device.torch_device),
                "growth_tracker": int(state["growth_tracker"]),
                "hysteresis_tracker": int(state["hysteresis_tracker"]),
            }
        )


def _loss_of(context_ranks: int, losses_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over this rank's tokens to differentiate, and the same to report.

    The schedule multiplies the first by the context ranks, as if it were a sum over them; gradients
    are averaged over these ranks later, as over data ranks.
    """
    loss = losses_BT.float().mean()
    return loss / context_ranks, loss.detach().clone()
