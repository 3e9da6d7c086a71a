"""Settings of what runs on CUDA: kernels, memory, and how communication is overlapped."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LayerKind(StrEnum):
    """Whose transformer layers are built on CUDA."""

    auto = "auto"  # Transformer Engine's where it can be used, but for float32; else local ones
    local = "local"  # Megatron-core's linears, torch's norms, our attention
    transformer_engine = "transformer_engine"  # Transformer Engine's, or the run is refused


class Fp8Scaling(StrEnum):
    """How FP8's scales are found."""

    current = "current"  # from each tensor's own largest value
    delayed = "delayed"  # from the largest values of the last steps, which a restart forgets


@dataclass(frozen=True, kw_only=True)
class CudaConfig:
    """What runs on CUDA; a null is resolved to where the feature applies."""

    layers: LayerKind = LayerKind.auto  # whose transformer layers are built
    # null: in bf16 and fp8; its gradient of the logits is always in bf16 (Megatron-core)
    cross_entropy_fusion: bool | None = None
    # adds weights' gradients inside their matmuls; null: where Apex's kernel is installed
    gradient_accumulation_fusion: bool | None = None
    # lets NCCL average gradients; null: with data > 1
    average_in_collective: bool | None = None
    # gathers parameters at the same time on all stages; null: interleaved with zero=1
    align_param_gather: bool | None = None
    # elements of a bucket of gradients; null: Megatron-core's, 40M or 1M per data rank
    bucket_size: int | None = None
    # accumulates and reduces gradients in bf16, not float32: half the memory, less exact
    bf16_gradients: bool = False
    # overlaps tensor parallel's collectives with matmuls (Transformer Engine, sequence parallel)
    tensor_overlap: bool = False
    graphs: bool = False  # replays each layer as a CUDA graph
    fp8_scaling: Fp8Scaling = Fp8Scaling.current  # precision=fp8: how its scales are found
    # lets the allocator grow its segments, which fragments memory less
    expandable_segments: bool = True
    numa_binding: bool = True  # binds each rank to the processor cores nearest to its GPU
    # processes that compile kernels, per rank; null: this node's cores over its ranks, at most 8
    compile_workers: int | None = None
