"""A layer's experts in inference: every token goes to all that it chose, however many chose them.

Shape suffixes: N tokens, H hidden, E experts, K chosen experts of a token, C choices of one expert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.settings.network import MoeConfig
from models.layer_table import ROUTER
from models.routing import choose

Weights = Mapping[str, Tensor]
Mlp = Callable[[str, Tensor], Tensor]


def mixture(w: Weights, moe: MoeConfig, read_NH: Tensor, bias_E: Tensor | None, mlp: Mlp) -> Tensor:
    """[N, H]: what a layer's experts, routed and shared, say of each token together.

    Args:
        w: the layer's weights, by their names in it.
        bias_E: what the layer's balance has come to, float32; see `models.routing.choose`.
        mlp: the output of the MLP with a name, of rows [C, H]. Where tensor ranks share it, it is
            a rank's part of the output, and so is the result.
    """
    # As in training: the router's weight in the model's precision, its logits in float32.
    logits_NE = F.linear(read_NH.float(), w[ROUTER].float())
    weights_NK, experts_NK, _ = choose(logits_NE, moe, bias_E)
    out_NH = torch.zeros_like(read_NH, dtype=torch.float32)
    for expert, places_C in _chosen(experts_NK, moe.experts):
        tokens_C = places_C // moe.top_k
        said_CH = mlp(f"mlp.experts.{expert}", read_NH[tokens_C]).float()
        out_NH.index_add_(0, tokens_C, said_CH * weights_NK.flatten()[places_C, None])
    if moe.shared:
        out_NH += mlp("mlp.shared_experts", read_NH)
    return out_NH.to(read_NH.dtype)


def _chosen(experts_NK: Tensor, experts: int) -> Iterator[tuple[int, Tensor]]:
    """Each expert that a token chose, and which of all N x K choices are of it.

    How many there are of each is read on the host: the one time that a layer waits for the device.
    """
    flat = experts_NK.flatten()
    order = flat.argsort(stable=True)
    counts = flat.bincount(minlength=experts).tolist()
    for expert, places_C in enumerate(torch.split(order, counts)):
        if len(places_C):
            yield expert, places_C
