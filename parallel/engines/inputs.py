"""What a rank computes of a micro-batch: its tokens, their labels and positions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.training.attention import positions_of
from models.training.context.split import Split


class Inputs(NamedTuple):
    """A micro-batch on this rank's device: [B, T] each, of the tokens that it has."""

    tokens: Tensor
    labels: Tensor
    positions: Tensor


def inputs_of(samples: Tensor, device: torch.device, restarting_BT: Tensor | None = None) -> Inputs:
    """`samples` are tokens [B, T + 1]; under context parallelism this rank has some of T.

    Args:
        restarting_BT: where documents begin, if positions count from there.
    """
    samples = samples.to(device, non_blocking=True)
    split = Split.here()
    tokens, labels = (split.own(it, 1).contiguous() for it in (samples[:, :-1], samples[:, 1:]))
    if restarting_BT is None:
        positions = split.positions(tokens.shape[1], device).expand_as(tokens)
    else:
        positions = positions_of(restarting_BT, split).to(device, torch.long, non_blocking=True)
    return Inputs(tokens, labels, positions)
