"""Jobs of the GPU kit: what its ranks do, on CUDA or on a CPU.

What they import of torch's they import inside, as tests/pool.py asks.
"""

from __future__ import annotations

import math
import os
from functools import partial
from typing import Any

from configs.schema import EngineConfig, Precision
from models.shape import ModelShape
from parallel.layout import Layout
from tests import training


def one_is_gone() -> int:
    """The second of two ranks ends without a word, and the first answers."""
    import torch

    rank = torch.distributed.get_rank()
    if rank == 1:
        os._exit(1)
    return rank


def train_and_evaluate(
    layout: Layout,
    steps: int,
    precision: Precision,
    shape: ModelShape,
    config: EngineConfig,
) -> Any:
    """(loss, gradient norm) of each step, the loss that an evaluation after each gives, this
    rank's weights, and what the engine said of itself.

    An evaluation between steps has to see the weights that the last one made, which ZeRO 1 may
    still be gathering, and must not disturb the next.
    """
    results, evaluations = [], []
    with training.engine(layout, precision, shape, config) as running:
        for step in range(1, steps + 1):
            results += training.take_steps(running, layout, step, step)
            evaluations.append(running.evaluate(training.batch_here(layout, steps + step, shape)))
        return results, training.weights_here(running), evaluations, running.notices


def attention_errors(
    backend: str, width: int, lengths: list[int], window: int, dtype_name: str, each: int
) -> list[tuple[int, float, float, float]]:
    """Banded attention and the mask written out, both against the mask in float64.

    Args:
        each: heads of queries for each of two heads of keys and values.

    Of each length: tokens, and of output and gradients the largest error of ours, the largest of
    the mask's in the same dtype, and the largest true value times the dtype's epsilon.
    """
    import torch

    from models.ops.attention.banded import AttentionBackend, band_mask, banded_attention

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    dtype = getattr(torch, dtype_name)
    found = []
    for tokens in lengths:
        if device == "cuda":
            # A process compiles a function for eight shapes and no more; training has one.
            torch._dynamo.reset()
        generator = torch.Generator().manual_seed(tokens)
        # As a layer gives them: heads apart in memory, tokens outermost.
        sizes = [(tokens, 1, heads, width) for heads in (2 * each, 2, 2, 2 * each)]
        made = [torch.randn(size, generator=generator) for size in sizes]
        given = [it.to(device, dtype).permute(1, 2, 0, 3) for it in made]
        inputs, weights = [it.requires_grad_() for it in given[:3]], given[3]
        mask = band_mask(tokens, window, torch.device(device))

        masked = partial(_masked, mask=mask, each=each)
        banded = partial(banded_attention, window=window, backend=AttentionBackend(backend))
        exact = [it.detach().double().requires_grad_() for it in inputs]
        truth = _with_gradients(masked, exact, weights.double())
        worst = (0.0, 0.0, 0.0)
        for ours, other, true in zip(
            _with_gradients(banded, inputs, weights),
            _with_gradients(masked, inputs, weights),
            truth,
            strict=True,
        ):
            scale = float(true.abs().max()) * torch.finfo(dtype).eps
            mine, masks = (float((it.double() - true).abs().max()) for it in (ours, other))
            if not math.isfinite(mine):
                worst = (mine, masks, scale)
                break
            # The one that is worst for its own size.
            worst = max(worst, (mine, masks, scale), key=lambda it: it[0] / it[2] if it[2] else 0.0)
        found.append((tokens, *worst))
    return found


def _masked(query: Any, key: Any, value: Any, *, mask: Any, each: int) -> Any:
    import torch.nn.functional as F

    key, value = (it.repeat_interleave(each, 1) for it in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _with_gradients(attend: Any, inputs: Any, weights: Any) -> tuple[Any, ...]:
    import torch

    out = attend(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, weights))
