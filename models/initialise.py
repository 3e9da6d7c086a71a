"""Initial weights that do not depend on the layout.

Each element is a function of the seed, the parameter's global name and the element's position in
the full parameter: a counter-based generator (Philox 4x64, Salmon et al. 2011) is evaluated at the
positions that a shard holds, so a rank generates only its own part.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.shape import ModelShape

STANDARD_DEVIATION = 0.02
_BLOCK = 4  # 64-bit numbers per Philox counter
_AT_ONCE = 1 << 20  # elements processed at a time, to bound the memory of doubles


@dataclass(frozen=True, slots=True)
class Part:
    """One rank's part of a parameter: all of it, or one of equal parts along a dimension."""

    dim: int | None = None
    index: int = 0
    parts: int = 1


def initial_weight(
    name: str, local_shape: torch.Size, part: Part, model: ModelShape, seed: int
) -> Tensor:
    """GPT-2's initial values of one rank's part of the parameter `name`, float32, on CPU.

    Weights are normal with deviation 0.02, those that write to the residual stream scaled by
    1/sqrt(2 layers) (Radford et al. 2019); biases 0; norms 1; rows beyond the vocabulary 0.
    """
    if name.endswith("bias"):
        return torch.zeros(local_shape)
    if len(local_shape) == 1:
        return torch.ones(local_shape)
    deviation = STANDARD_DEVIATION
    if model.parameter(name).to_residual:
        deviation /= math.sqrt(2 * model.layers)
    weight = normal_part(name, local_shape, part, seed).mul_(deviation)
    if name.endswith("word_embeddings.weight"):
        first = part.index * local_shape[0]
        weight[max(model.vocab - first, 0) :] = 0.0
    return weight


def normal_part(name: str, local_shape: torch.Size, part: Part, seed: int) -> Tensor:
    """Standard normal numbers of one part of a matrix [rows, columns], float32."""
    rows, columns = local_shape
    out = torch.empty(local_shape)
    if part.dim != 1:  # full rows: one range of positions
        first_row = part.index * rows if part.dim == 0 else 0
        _fill(out.view(-1), name, seed, first_row * columns)
        return out
    width = columns * part.parts
    for row in range(rows):
        _fill(out[row], name, seed, row * width + part.index * columns)
    return out


def _fill(out: Tensor, name: str, seed: int, first: int) -> None:
    """Writes the elements at positions first, first + 1, ... of parameter `name`."""
    key = np.frombuffer(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest(), "u8")
    for start in range(0, out.numel(), _AT_ONCE):
        piece = out[start : start + _AT_ONCE]
        block, skip = divmod(first + start, _BLOCK)
        # numpy's Philox starts with the counter after the given one.
        bits = np.random.Philox(counter=block, key=key).random_raw(piece.numel() + skip)[skip:]
        uniform = (bits >> np.uint64(12)).astype(np.float64)
        uniform += 0.5  # with 52 bits this is exact, so never 0 nor 1
        uniform *= 2.0**-52
        piece.copy_(torch.special.ndtri(torch.from_numpy(uniform)))
