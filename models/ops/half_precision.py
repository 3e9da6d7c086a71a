"""Half precision on a CPU that has no instructions for it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

_HALVES = (torch.float16, torch.bfloat16)


def upcast_if_unsupported(x: Tensor) -> Tensor:
    """The same numbers as a CPU is to compute with: of what it has no instructions for, float32.

    torch's matmuls and attention in half precision take ten times as long there. Sums come out the
    better for it.
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
