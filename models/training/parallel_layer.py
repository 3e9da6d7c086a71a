"""A layer whose attention and MLP both read the layer's input (Wang and Komatsuzaki 2021).

y = x + attention(norm_1(x)) + mlp(norm_2(x)),   as in GPT-NeoX
"""

from __future__ import annotations

from typing import Any

from megatron.core.transformer.transformer_layer import TransformerLayer
from megatron.core.utils import make_viewless_tensor
from torch import Tensor


class ParallelLayer(TransformerLayer):  # type: ignore[misc]  # Megatron-core is untyped
    """Megatron-core's layer with attention and MLP side by side."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Hidden states [T, B, H] to [T, B, H], and Megatron-core's context."""
        kwargs.pop("dynamic_inference_decode_only", None)
        attended, context = self._forward_attention(hidden_states, *args, **kwargs)
        inner = self._forward_pre_mlp_layernorm(hidden_states)
        with self.bias_dropout_add_exec_handler():
            out = self.mlp_bda(self.training, self.config.bias_dropout_fusion)(
                self.mlp(inner), attended, self.hidden_dropout
            )
        viewless = make_viewless_tensor(inp=out, requires_grad=out.requires_grad, keep_graph=True)
        return viewless, context
