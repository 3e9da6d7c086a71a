"""The spec of experts in place of an MLP: Megatron-core's layer around our router.

On CUDA with Transformer Engine's layers the experts of a rank are multiplied together (its grouped
matmul); elsewhere one after the other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from megatron.core.models.gpt.moe_module_specs import get_moe_module_spec
from megatron.core.transformer.spec_utils import ModuleSpec

from models.ops.linear import ColumnLinear, RowLinear
from models.shape import ModelShape
from models.training.router import Router


def experts_spec(
    shape: ModelShape, layer: int, *, activation: Any, transformer_engine: bool
) -> ModuleSpec:
    """Of layer number `layer` (from 0).

    Args:
        activation: of local layers.
    """
    spec: ModuleSpec = get_moe_module_spec(
        use_te=transformer_engine,
        num_experts=shape.moe.experts,
        moe_grouped_gemm=transformer_engine,
    )
    mixture = spec.submodules
    mixture.router = partial(Router, moe=shape.moe, layer=shape.expert_layers.index(layer))
    if not transformer_engine:
        for part in (mixture.experts, mixture.shared_experts):
            part.submodules.linear_fc1, part.submodules.linear_fc2 = ColumnLinear, RowLinear
            part.submodules.activation_func = activation
    return spec
