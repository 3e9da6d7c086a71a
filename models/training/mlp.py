"""The activation of the MLP on a CPU, where Megatron-core has no fused kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.settings.network import Mlp
from models.ops.gated import gated
from models.ops.gelu import host_gelu


class Activation(torch.nn.Module):
    """From the first linear's output to the second's input."""

    def __init__(self, config: Any, *, kind: Mlp) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """[..., I], or [..., 2 I] of a gated MLP, to [..., I]."""
        if self.kind.is_gated:
            return gated(x, self.kind)
        return host_gelu(x) if self.kind is Mlp.gelu else F.gelu(x)
