"""The time that Muon takes beside moving what it updates: matmuls and collectives.

By the same rates as a pass's matmuls and the layout's other collectives; not measured by itself.
Imports no torch.
"""

from __future__ import annotations

from models.layer_table import layer_matrix_numbers
from parallel.planner.inputs.job import Job
from parallel.planner.timing.kernels import Kernels
from parallel.planner.timing.links import Links

_FLOAT = 4  # bytes
_OF_QKV = 3  # matrices in the fused one


def muon_seconds(job: Job, kernels: Kernels, links: Links) -> float:
    """Of the rank that is dealt most."""
    layout = job.layout
    layers = max(job.layers_of(stage) for stage in range(layout.pipeline))
    dealt = -(-layers // layout.copies)
    matrices = [each for each in job.shape.layer(0) if each.is_matrix]
    work = [0.0] * layout.tensor
    between = 0.0
    for place, matrix in enumerate(matrices):
        rows, columns = matrix.shape
        count = _OF_QKV if matrix.name.endswith("linear_qkv.weight") else matrix.blocks
        work[place % layout.tensor] += count * _orthogonal(job, kernels, rows // count, columns)
        between += links.tensor_all_reduce(_FLOAT * matrix.numbers)  # gathered, and broadcast
    shards = _FLOAT * layers * layer_matrix_numbers(job.shape.form(0), layout.cut)
    over_data = links.data_all_gather(shards) * (2 if layout.zero else 1)
    return dealt * (max(work) + between) + over_data


def _orthogonal(job: Job, kernels: Kernels, rows: int, columns: int) -> float:
    short, long = sorted((rows, columns))
    gram = kernels.matmul(short, short, long, narrow=False)
    square = kernels.matmul(short, short, short, narrow=False)
    product = kernels.matmul(short, long, short, narrow=False)
    return job.newton_schulz_steps * (gram + square + product)
