"""The dtypes of `precision`."""

from __future__ import annotations

import torch

from configs.schema import Precision

DTYPES = {
    Precision.float32: torch.float32,
    Precision.bf16: torch.bfloat16,
    Precision.fp16: torch.float16,
    Precision.fp8: torch.bfloat16,  # of what is stored; matmuls cast it
}
