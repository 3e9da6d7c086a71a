"""What Muon makes of one matrix: its nearest orthogonal one, times a size.

K. Jordan et al. 2024, "Muon: an optimizer for hidden layers"; J. Liu et al. 2025, "Muon is scalable
for LLM training" (arXiv 2502.16982).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from configs.schema import MuonScale
from models.shape import ModelShape
from parallel.engines.base import ParameterPart

Views = Callable[[Tensor], tuple[Tensor, ...]]
"""From a whole parameter [rows, columns] to views [..., columns] of the matrices in it."""

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic
_SMALLEST = 1e-7  # norm to divide by


def is_muons(at: ParameterPart) -> bool:
    """Whether Muon updates a parameter: a matrix of a layer. AdamW updates all others."""
    return at.name.startswith("decoder.layers.") and len(at.shape) == 2


def views_of(at: ParameterPart, shape: ModelShape) -> Views:
    """How to find the matrices of a parameter, each of which is made orthogonal by itself."""
    if at.name.endswith(".linear_qkv.weight"):
        sizes = (shape.heads, shape.query_groups, shape.head_width)
        return lambda whole: queries_keys_values(whole, *sizes)
    blocks = shape.parameter(at.name).blocks
    return lambda whole: blocks_of(whole, at.part.parts, blocks)


def queries_keys_values(
    whole: Tensor, heads: int, query_groups: int, head_width: int
) -> tuple[Tensor, ...]:
    """The three matrices of a fused one, whose rows are, group by group, those of the group's
    queries, of its key and of its value.
    """
    by_group = whole.view(query_groups, -1, whole.shape[-1])
    sizes = [heads // query_groups * head_width, head_width, head_width]
    queries, keys, values = torch.split(by_group, sizes, dim=1)
    return queries, keys, values


def blocks_of(whole: Tensor, ranks: int, blocks: int) -> tuple[Tensor, ...]:
    """The halves of a gated MLP's matrix, of which the rows of each rank are a part of each."""
    return whole.view(ranks, blocks, -1, whole.shape[-1]).unbind(1) if blocks > 1 else (whole,)


def update_of(
    whole: Tensor, views: Views, *, steps: int, scale: MuonScale, dtype: torch.dtype
) -> Tensor:
    """What to subtract, times the learning rate, for the momentum `whole` of a parameter."""
    made = torch.empty_like(whole)
    for given, update in zip(views(whole), views(made), strict=True):
        matrix = given.flatten(0, -2)
        update.copy_(orthogonal(matrix, steps, dtype).view(given.shape))
        update.mul_(size_of(scale, *matrix.shape))
    return made


def orthogonal(matrix: Tensor, steps: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T: singular values near 1."""
    a, b, c = _COEFFICIENTS
    high = matrix.shape[0] > matrix.shape[1]
    near = matrix.T if high else matrix  # the Gram matrix is that of the shorter side
    near = (near / near.norm().clamp(min=_SMALLEST)).to(dtype)
    for _ in range(steps):
        gram = near @ near.T
        near = torch.addmm(near, torch.addmm(gram, gram, gram, beta=b, alpha=c), near, beta=a)
    return near.T if high else near


def size_of(scale: MuonScale, rows: int, columns: int) -> float:
    """The factor on an orthogonal matrix."""
    if scale is MuonScale.match_rms_adamw:
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))
