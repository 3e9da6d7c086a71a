"""Megatron-core's configuration objects, derived from ours in one place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
from megatron.core.transformer import TransformerConfig

from configs.errors import InputError
from configs.schema import (
    ContextBy,
    DeviceName,
    ExpertBy,
    OptimizerConfig,
    Precision,
    Recompute,
)
from configs.settings.cuda import CudaConfig, Fp8Scaling, LayerKind
from configs.settings.network import Biases, Mlp, Norm, QkNorm
from models.ops.attention.banded import attention_backend
from models.shape import ModelShape
from models.training.router_state import RouterState
from parallel.engines.cuda_features import (
    ACCUMULATION_KERNEL,
    CudaFeatures,
    has_accumulation_kernel,
)
from parallel.layout import Layout
from parallel.runtime import gpu_packages
from parallel.runtime.dtypes import DTYPES


def transformer_config(
    shape: ModelShape,
    layout: Layout,
    precision: Precision,
    device: DeviceName,
    cuda: CudaConfig,
    features: CudaFeatures,
    *,
    restart_positions: bool = False,
) -> TransformerConfig:
    """Sizes, splits and precision of the network; no dropout; weights are initialized elsewhere.

    Args:
        restart_positions: positions count from the beginning of each document.

    Raises InputError for layers or a precision that this process cannot have.
    """
    _require_kernels(features)
    interleaved = layout.interleave > 1
    dtype = DTYPES[precision]
    config = TransformerConfig(
        num_layers=shape.layers,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        ffn_hidden_size=shape.feed_forward,
        kv_channels=shape.head_width,
        num_query_groups=shape.query_groups,
        normalization="RMSNorm" if shape.norm is Norm.rms else "LayerNorm",
        layernorm_epsilon=shape.norm_epsilon,
        # It sums the gradients of one weight for all heads over tensor ranks.
        qk_layernorm=shape.qk_norm is QkNorm.head,
        **_mlp(shape, device),
        hidden_dropout=0.0,
        attention_dropout=0.0,
        add_bias_linear=shape.biases is Biases.all,
        add_qkv_bias=shape.biases.of_qkv,
        tensor_model_parallel_size=layout.tensor,
        context_parallel_size=layout.context,
        **_experts(shape, layout, device, cuda, precision),
        pipeline_model_parallel_size=layout.pipeline,
        virtual_pipeline_model_parallel_size=layout.interleave if interleaved else None,
        pipeline_model_parallel_layout=_stages(layout),
        sequence_parallel=layout.sequence_parallel,
        pipeline_dtype=dtype,
        params_dtype=dtype,
        bf16=precision.stored is Precision.bf16,
        fp16=precision is Precision.fp16,
        # With two interleaved stages the same pair of ranks exchanges two messages; batched, they
        # are swapped and training silently diverges.
        overlap_p2p_comm=interleaved,
        batch_p2p_comm=not interleaved,
        # It waits for the device after each message, against a race in versions of torch before 2.
        batch_p2p_sync=False,
        # The values are set afterwards, by global name and position (models.initialise).
        init_method=_leave_alone,
        output_layer_init_method=_leave_alone,
        perform_initialization=True,
        use_cpu_initialization=False,
        gradient_accumulation_fusion=features.gradient_accumulation_fusion,
        cross_entropy_loss_fusion=features.cross_entropy_fusion,
        tp_comm_overlap=features.tensor_overlap,
        cuda_graph_impl="local" if features.graphs else "none",
        masked_softmax_fusion=False,
        bias_dropout_fusion=device is DeviceName.cuda,
        # Frees a stage's output once it is sent. Interleaved sends are then still in progress: a
        # CUDA stream keeps the memory alive, gloo would send whatever has replaced it.
        deallocate_pipeline_outputs=device is DeviceName.cuda or not interleaved,
        **_recompute(layout.recompute),
        **_fp8(precision, cuda.fp8_scaling),
    )
    config.transformer_engine = uses_transformer_engine(device, cuda, precision, layout.zero)
    config.context_by = layout.context_by or ContextBy.gather
    config.restart_positions = restart_positions
    config.router_state = None
    if shape.moe.experts:
        config.router_state = RouterState(shape, torch.device(device.value))
    config.on_cpu = device is DeviceName.cpu
    config.attention_backend = attention_backend(device.value, dtype, config.attention_dropout)
    return config


def _mlp(shape: ModelShape, device: DeviceName) -> dict[str, Any]:
    """The activation: Megatron-core's fused kernel on CUDA, where it has one, and ours on a CPU."""
    function: Callable[..., Any] = torch.nn.functional.gelu
    gate = shape.mlp.is_gated
    if shape.mlp is Mlp.swiglu:
        function = torch.nn.functional.silu
    # Its GELU is the tanh approximation, and is fused with a bias only.
    fused = gate or (shape.mlp is Mlp.gelu and shape.biases is Biases.all)
    on_cuda = device is DeviceName.cuda
    if on_cuda and not fused:
        approximate = "tanh" if shape.mlp is Mlp.gelu else "none"
        function = partial(torch.nn.functional.gelu, approximate=approximate)
    return {
        "activation_func": function,
        "gated_linear_unit": gate,
        "bias_activation_fusion": on_cuda and fused,
        # So that a module of its own is taken: `models.training.mlp`.
        "use_te_activation_func": not on_cuda,
    }


def _experts(
    shape: ModelShape, layout: Layout, device: DeviceName, cuda: CudaConfig, precision: Precision
) -> dict[str, Any]:
    """Of layers with experts; choice and losses are `models.training.router`'s."""
    moe = shape.moe
    if not moe.experts:
        return {}
    return {
        "num_moe_experts": moe.experts,
        "moe_router_topk": moe.top_k,
        "moe_ffn_hidden_size": shape.expert_feed_forward,
        "moe_shared_expert_intermediate_size": moe.shared or None,
        "moe_router_load_balancing_type": "none",
        "moe_aux_loss_coeff": 0.0,
        "moe_router_pre_softmax": True,
        "moe_router_dtype": "fp32",
        "moe_expert_capacity_factor": moe.capacity,
        "moe_token_dispatcher_type": _DISPATCHERS[layout.expert_by or ExpertBy.all_to_all],
        "moe_grouped_gemm": uses_transformer_engine(device, cuda, precision, layout.zero),
        "expert_model_parallel_size": layout.expert,
        "expert_tensor_parallel_size": layout.expert_tensor,
    }


_DISPATCHERS = {ExpertBy.all_to_all: "alltoall", ExpertBy.all_gather: "allgather"}


def _stages(layout: Layout) -> list[list[str]] | None:
    """The layers of each stage in Megatron-core's format; None if its default split is the same."""
    if layout.stage_layers is None or layout.pipeline == 1:
        return None
    stages = [["decoder"] * layers for layers in layout.stage_layers]
    stages[0].insert(0, "embedding")
    stages[-1].append("loss")
    return stages


def _require_kernels(features: CudaFeatures) -> None:
    if features.gradient_accumulation_fusion and not has_accumulation_kernel():
        raise InputError(
            f"cuda.gradient_accumulation_fusion=true: Apex's {ACCUMULATION_KERNEL} is not "
            "installed, or cannot be imported; nearest: cuda.gradient_accumulation_fusion=null"
        )


def uses_transformer_engine(
    device: DeviceName, cuda: CudaConfig, precision: Precision, zero: int = 0
) -> bool:
    """Whether layers are Transformer Engine's: on CUDA, where it can be used and is wanted.

    Not in float32, which its matmuls round to TF32 (its cublaslt_gemm.cu). Raises InputError with
    the reason where it is required and cannot be used.
    """
    # Its layers keep weights for their backward pass, which ZeRO 3 frees: only if asked for.
    auto = cuda.layers is LayerKind.auto
    local = cuda.layers is LayerKind.local or precision is Precision.float32 or (auto and zero == 3)
    if device is not DeviceName.cuda or local:
        return False
    fault = gpu_packages.transformer_engine_fault()
    if precision is Precision.fp8 and fault is None:
        from transformer_engine.pytorch.fp8 import FP8GlobalStateManager

        there, reason = FP8GlobalStateManager.is_fp8_available()
        fault = None if there else reason
    if fault is None:
        return True
    if precision is Precision.fp8:
        raise InputError(f"precision=fp8: Transformer Engine: {fault}; nearest: precision=bf16")
    if cuda.layers is LayerKind.transformer_engine:
        raise InputError(
            f"cuda.layers=transformer_engine: it cannot be used: {fault}; nearest: cuda.layers=auto"
        )
    return False


def layer_notices(device: DeviceName, cuda: CudaConfig) -> list[str]:
    """A line for the user if Transformer Engine is installed and was passed over."""
    if device is not DeviceName.cuda or cuda.layers is not LayerKind.auto:
        return []
    fault = gpu_packages.transformer_engine_fault()
    if fault in (None, gpu_packages.MISSING):
        return []
    return [f"layers   local ones: Transformer Engine cannot be used: {fault}"]


def overlaps(layout: Layout, device: DeviceName) -> bool:
    """Whether gradients are reduced while ranks compute, which gloo does not."""
    return device is DeviceName.cuda and layout.copies > 1


def ddp_config(
    layout: Layout, device: DeviceName, features: CudaFeatures
) -> DistributedDataParallelConfig:
    """How gradients are reduced: on CUDA overlapped with the backward pass."""
    return DistributedDataParallelConfig(
        grad_reduce_in_fp32=not features.bf16_gradients,
        overlap_grad_reduce=overlaps(layout, device),
        overlap_param_gather=overlaps(layout, device) and layout.zero == 1,
        align_param_gather=features.align_param_gather,
        use_distributed_optimizer=layout.zero == 1,
        bucket_size=features.bucket_size,
        average_in_collective=features.average_in_collective,
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
        bf16=precision.stored is Precision.bf16,
        fp16=precision is Precision.fp16,
        initial_loss_scale=optimizer.loss_scale,
        use_distributed_optimizer=layout.zero == 1,
        overlap_param_gather=overlaps(layout, device) and layout.zero == 1,
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


def _fp8(precision: Precision, scaling: Fp8Scaling) -> dict[str, Any]:
    """Matmuls in FP8 under Transformer Engine's autocast; weights stay in bf16."""
    if precision is not Precision.fp8:
        return {}
    if scaling is Fp8Scaling.current:
        return {"fp8": "hybrid", "fp8_recipe": "tensorwise"}
    # The history is that of NVIDIA's recipes; Megatron-core's default keeps the last step alone.
    return {
        "fp8": "hybrid",
        "fp8_recipe": "delayed",
        "fp8_amax_history_len": 1024,
        "fp8_amax_compute_algo": "max",
    }
