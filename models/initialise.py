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
    """One rank's part of a parameter: all of it, or one of equal parts along a dimension.

    Attributes:
        blocks: equal blocks of that dimension, each of which is cut into parts; a rank holds its
            part of each, one after the other.
    """

    dim: int | None = None
    index: int = 0
    parts: int = 1
    blocks: int = 1

    def pieces(self, whole: int, here: int) -> list[Piece]:
        """Where the elements of a shard lie along `dim`, without those that are padding.

        Args:
            whole: the parameter's size along `dim`.
            here: the shard's.
        """
        if self.dim is None:
            return [Piece(0, 0, whole)]
        block, part = whole // self.blocks, here // self.blocks
        found = []
        for number in range(self.blocks):
            first = self.index * part
            size = min(part, block - first)
            if size > 0:
                found.append(Piece(number * part, number * block + first, size))
        return found

    def of(self, whole: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The shard, of `shape`, of an unsharded parameter; padding is 0."""
        if self.dim is None:
            return whole
        shard = whole.new_zeros(shape)
        for piece in self.pieces(whole.shape[self.dim], shape[self.dim]):
            own = whole.narrow(self.dim, piece.start, piece.size)
            shard.narrow(self.dim, piece.at, piece.size).copy_(own)
        return shard


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` elements along a dimension: from `at` on in a shard, from `start` in the parameter."""

    at: int
    start: int
    size: int


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
    parameter = model.parameter(name)
    if parameter.to_residual:
        deviation /= math.sqrt(2 * model.layers)
    return normal_part(name, local_shape, part, parameter.shape, seed).mul_(deviation)


def normal_part(
    name: str, local_shape: torch.Size, part: Part, whole: tuple[int, ...], seed: int
) -> Tensor:
    """Standard normal numbers of one part of a matrix `whole`, float32; its padding is 0."""
    rows, columns = whole
    if part.dim is None:
        part = Part(dim=0)
    out = torch.zeros(local_shape)
    for piece in part.pieces(whole[part.dim or 0], local_shape[part.dim or 0]):
        if part.dim == 0:  # full rows: one range of positions
            own = out[piece.at : piece.at + piece.size]
            _fill(own.view(-1), name, seed, piece.start * columns)
            continue
        for row in range(rows):
            own = out[row, piece.at : piece.at + piece.size]
            _fill(own, name, seed, row * columns + piece.start)
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
