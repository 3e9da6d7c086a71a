"""The gradient norm where neither Transformer Engine nor Apex is installed.

Megatron-core's own way then reads every parameter's norm back to the host, one by one, before it
takes the norm of them: a wait for the device at each. Here all norms are taken on the device; the
only value read is the sum over ranks, which Megatron-core reads itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def install() -> None:
    """Replaces Megatron-core's fallback; fused kernels and the CPU bridge's norm stay."""
    from megatron.core import utils
    from megatron.core.optimizer import clip_grads

    if clip_grads.l2_norm_impl is utils.local_multi_tensor_l2_norm:
        clip_grads.l2_norm_impl = l2_norm


def l2_norm(
    _chunk_size: int, _overflow: Any, tensor_lists: list[list[Tensor]], *_rest: Any
) -> tuple[Tensor, None]:
    """The Euclidean norm [1], float32, of all tensors together, as `amp_C.multi_tensor_l2norm`."""
    tensors = [tensor for tensors in tensor_lists for tensor in tensors]
    norms = torch._foreach_norm(tensors, dtype=torch.float32)
    return torch.stack(norms).norm().view(1), None
