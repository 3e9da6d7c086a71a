"""The DeepSpeed configuration, derived from ours in one place. Imports no torch."""

from __future__ import annotations

import math
from typing import Any

from configs.schema import DeviceName, EngineConfig, OptimizerConfig, Precision
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.parameter_count import rank_parameters

BUCKET = 500_000_000  # elements; DeepSpeed's default
MOST_KEPT = 1_000_000_000  # elements: of ZeRO 3's live parameters, and of its sub-groups


def deepspeed_config(
    shape: ModelShape,
    layout: Layout,
    optimizer: OptimizerConfig,
    engine: EngineConfig,
    *,
    precision: Precision,
    device: DeviceName,
    global_batch: int,
) -> dict[str, Any]:
    """The configuration for `deepspeed.initialize`; also written to the run directory.

    Adam itself is built in code. Where gradients are unsharded (`ZeRO 0`) we clip them ourselves,
    since DeepSpeed omits later stages from the norm, so its own clipping is off.
    """
    stage = effective_zero(layout, precision)
    config: dict[str, Any] = {
        # Context ranks are data ranks to it, of which each has a micro-batch.
        "train_batch_size": global_batch * layout.context,
        "train_micro_batch_size_per_gpu": layout.micro_batch,
        "gradient_accumulation_steps": layout.micro_batches(global_batch),
        "gradient_clipping": optimizer.clip if stage else 0.0,
        "steps_per_print": None,
        "zero_optimization": _zero(shape, layout, engine, stage, device),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if layout.pipeline > 1:
        # Between stages DeepSpeed sends each tensor rank's shard of a tensor assumed to be equal on
        # all of them. With sequence parallelism it is a shard already, and would be cut wrongly.
        whole = layout.sequence_parallel or layout.dualpipev
        config["pipeline"] = {"pipe_partitioned": not whole, "grad_partitioned": not whole}
    if precision is not Precision.float32:
        # As in Megatron: gradients are accumulated and reduced in float32.
        config["data_types"] = {"grad_accum_dtype": "fp32"}
        config["communication_data_type"] = "fp32"
    if precision.stored is Precision.bf16:
        config["bf16"] = {"enabled": True}
    if precision is Precision.fp16:
        config["fp16"] = {
            "enabled": True,
            "loss_scale": 0,  # dynamic; the windows are Megatron's
            "initial_scale_power": round(math.log2(optimizer.loss_scale)),
            "loss_scale_window": 1000,
            "hysteresis": 2,
            "min_loss_scale": 1,
        }
    return config


def effective_zero(layout: Layout, precision: Precision) -> int:
    """The ZeRO stage passed to DeepSpeed.

    Without ZeRO its half-precision optimizers accumulate gradients in half precision. With a single
    copy ZeRO 1 is equivalent, with float32 accumulation.
    """
    if layout.zero == 0 and precision is not Precision.float32 and layout.copies == 1:
        return 1
    return layout.zero


def _zero(
    shape: ModelShape, layout: Layout, engine: EngineConfig, stage: int, device: DeviceName
) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage}
    if stage == 0:
        return zero
    # Buffers of this many elements are allocated whether they are filled or not.
    bucket = min(BUCKET, max(rank_parameters(shape, layout, p) for p in range(layout.pipeline)))
    zero["reduce_bucket_size"] = bucket
    zero["allgather_bucket_size"] = bucket
    zero["overlap_comm"] = device is DeviceName.cuda and layout.pipeline == 1 and stage > 1
    if engine.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": device is DeviceName.cuda}
    if stage == 3:
        # Norms and biases stay replicated: fetching them costs more than they save.
        zero["stage3_param_persistence_threshold"] = 10 * shape.hidden
        zero["stage3_prefetch_bucket_size"] = min(BUCKET, shape.hidden**2)
    return zero
