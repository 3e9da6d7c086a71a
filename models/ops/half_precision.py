"""Half precision on CPUs without native support."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

_HALVES = (torch.float16, torch.bfloat16)


def upcast_if_unsupported(x: Tensor) -> Tensor:
    """Upcasts half precision to float32 on CPUs without native support.

    torch's matmuls and attention in half precision are ten times as slow there. The sums are also
    more accurate.
    """
    if x.dtype not in _HALVES or _computes_in(x.dtype):
        return x
    return x.float()


@cache
def _computes_in(dtype: torch.dtype) -> bool:
    mkldnn: Any = torch.ops.mkldnn
    if dtype is torch.bfloat16:
        return bool(mkldnn._is_mkldnn_bf16_supported())
    return bool(mkldnn._is_mkldnn_fp16_supported())
