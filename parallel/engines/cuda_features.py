"""Which of the `cuda` settings a run has, once nulls are resolved. Imports no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from configs.schema import DeviceName, EngineName, Precision
from configs.settings.cuda import CudaConfig
from parallel.engines.registry import ENGINES
from parallel.layout import Layout

ACCUMULATION_KERNEL = "fused_weight_gradient_mlp_cuda"  # Apex's


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaFeatures:
    """The features of one run; on CPU only the gradients' format is free.

    Attributes:
        average_in_collective: NCCL averages gradients; gloo cannot.
        bucket_size: elements; None: Megatron-core's default.
    """

    cross_entropy_fusion: bool
    gradient_accumulation_fusion: bool
    average_in_collective: bool
    align_param_gather: bool
    bucket_size: int | None
    bf16_gradients: bool
    tensor_overlap: bool
    graphs: bool


def cuda_features(
    cuda: CudaConfig, layout: Layout, engine: EngineName, precision: Precision, device: DeviceName
) -> CudaFeatures:
    """Resolves nulls to where each feature is right; `parallel.rules` refuses what cannot be."""
    lacks = ENGINES[engine].lacks

    def on(name: str, by_default: bool = False) -> bool:
        chosen: bool | None = getattr(cuda, name)
        can = device is DeviceName.cuda and name not in lacks
        return can and (by_default if chosen is None else chosen)

    return CudaFeatures(
        # Its gradient is rounded to bf16, whatever the logits are.
        cross_entropy_fusion=on("cross_entropy_fusion", precision.stored is Precision.bf16),
        gradient_accumulation_fusion=on("gradient_accumulation_fusion", has_accumulation_kernel()),
        average_in_collective=on("average_in_collective", layout.copies > 1),
        align_param_gather=on(
            "align_param_gather", layout.interleave > 1 and layout.zero == 1 and layout.copies > 1
        ),
        bucket_size=cuda.bucket_size,
        bf16_gradients=cuda.bf16_gradients,
        tensor_overlap=on("tensor_overlap"),
        graphs=on("graphs"),
    )


def has_accumulation_kernel() -> bool:
    """Whether Apex's kernel is here, which adds a weight's gradient up inside its matmul."""
    return importlib.util.find_spec(ACCUMULATION_KERNEL) is not None  # None too if it is hidden
