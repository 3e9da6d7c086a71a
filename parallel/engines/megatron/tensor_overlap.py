"""Overlap of tensor parallel's collectives with matmuls, by Transformer Engine's user buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from configs.errors import InputError
from configs.schema import Precision
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.runtime.dtypes import DTYPES
from parallel.runtime.gpu_packages import transformer_engine_fault

WITHOUT = "cuda.tensor_overlap=false"


@contextmanager
def overlapping(shape: ModelShape, layout: Layout, precision: Precision) -> Iterator[None]:
    """Holds the buffers that all layers share: hidden states of a micro-batch, all tokens.

    Requires the process groups of `layout`. Raises InputError without Transformer Engine.
    """
    if fault := transformer_engine_fault():
        raise InputError(
            f"cuda.tensor_overlap=true: Transformer Engine cannot be used: {fault}; nearest: "
            f"{WITHOUT}"
        )
    from transformer_engine.pytorch.module import base

    modes = base.UserBufferQuantizationMode
    try:
        base.initialize_ub(
            shape=[shape.context * layout.micro_batch // layout.context, shape.hidden],
            tp_size=layout.tensor,
            quantization_modes=[modes.FP8 if precision is Precision.fp8 else modes.NONE],
            dtype=DTYPES[precision],
            bootstrap_backend="nccl",
        )
    except AssertionError as error:  # without CUDA multicast, as between GPUs on PCIe
        raise InputError(f"cuda.tensor_overlap=true: {error}; nearest: {WITHOUT}") from None
    try:
        yield
    finally:
        base.destroy_ub()
