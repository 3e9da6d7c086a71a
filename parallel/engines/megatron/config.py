"""Megatron-core's configuration objects, derived from ours in one place."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
from megatron.core.transformer import TransformerConfig

from configs.schema import DeviceName, OptimizerConfig, Precision, Recompute
from models.layer_table import NORM_EPSILON
from models.ops.banded_attention import attention_backend
from models.ops.gelu import host_gelu
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.runtime.dtypes import DTYPES


def transformer_config(
    shape: ModelShape, layout: Layout, precision: Precision, device: DeviceName
) -> TransformerConfig:
    """Sizes, splits and precision of the network; no dropout; weights are initialized elsewhere."""
    interleaved = layout.interleave > 1
    dtype = DTYPES[precision]
    config = TransformerConfig(
        num_layers=shape.layers,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        ffn_hidden_size=shape.feed_forward,
        kv_channels=shape.head_width,
        layernorm_epsilon=NORM_EPSILON,
        # Megatron's fused kernel is the same approximation, selected by torch's function.
        activation_func=torch.nn.functional.gelu if device is DeviceName.cuda else host_gelu,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        add_bias_linear=True,
        tensor_model_parallel_size=layout.tensor,
        pipeline_model_parallel_size=layout.pipeline,
        virtual_pipeline_model_parallel_size=layout.interleave if interleaved else None,
        pipeline_model_parallel_layout=_stages(layout),
        sequence_parallel=layout.sequence_parallel,
        pipeline_dtype=dtype,
        params_dtype=dtype,
        bf16=precision is Precision.bf16,
        fp16=precision is Precision.fp16,
        # With two interleaved stages the same pair of ranks exchanges two messages; batched, they
        # are swapped and training silently diverges.
        overlap_p2p_comm=interleaved,
        batch_p2p_comm=not interleaved,
        # The values are set afterwards, by global name and position (models.initialise).
        init_method=_leave_alone,
        output_layer_init_method=_leave_alone,
        perform_initialization=True,
        use_cpu_initialization=False,
        gradient_accumulation_fusion=False,
        masked_softmax_fusion=False,
        bias_dropout_fusion=device is DeviceName.cuda,
        bias_activation_fusion=device is DeviceName.cuda,
        # Frees a stage's output once it is sent. Interleaved sends are then still in progress: a
        # CUDA stream keeps the memory alive, gloo would send whatever has replaced it.
        deallocate_pipeline_outputs=device is DeviceName.cuda or not interleaved,
        **_recompute(layout.recompute),
    )
    config.on_cpu = device is DeviceName.cpu
    config.attention_backend = attention_backend(device.value, dtype, config.attention_dropout)
    return config


def _stages(layout: Layout) -> list[list[str]] | None:
    """The layers of each stage in Megatron-core's format; None if its default split is the same."""
    if layout.stage_layers is None or layout.pipeline == 1:
        return None
    stages = [["decoder"] * layers for layers in layout.stage_layers]
    stages[0].insert(0, "embedding")
    stages[-1].append("loss")
    return stages


def ddp_config(layout: Layout, device: DeviceName) -> DistributedDataParallelConfig:
    """Reduces gradients in float32, on CUDA overlapped with the backward pass."""
    overlap = device is DeviceName.cuda and layout.data > 1
    return DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=overlap,
        overlap_param_gather=overlap and layout.zero == 1,
        use_distributed_optimizer=layout.zero == 1,
    )


def optimizer_config(
    optimizer: OptimizerConfig, layout: Layout, precision: Precision, device: DeviceName
) -> MegatronOptimizerConfig:
    """Adam's settings; sharded over the data ranks with ZeRO-1."""
    return MegatronOptimizerConfig(
        optimizer="adam",
        lr=optimizer.learning_rate,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        adam_eps=optimizer.epsilon,
        clip_grad=optimizer.clip,
        params_dtype=DTYPES[precision],
        bf16=precision is Precision.bf16,
        fp16=precision is Precision.fp16,
        initial_loss_scale=optimizer.loss_scale,
        use_distributed_optimizer=layout.zero == 1,
        overlap_param_gather=ddp_config(layout, device).overlap_param_gather,
    )


def _leave_alone(weight: torch.Tensor) -> torch.Tensor:
    return weight


def _recompute(choice: Recompute) -> dict[str, Any]:
    if choice is Recompute.full:
        return {
            "recompute_granularity": "full",
            "recompute_method": "uniform",
            "recompute_num_layers": 1,
        }
    if choice is Recompute.selective:
        return {"recompute_granularity": "selective", "recompute_modules": ["core_attn"]}
    return {}
