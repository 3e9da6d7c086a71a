"""Values that DeepSpeed's ranks exchange, supplied in a fake world where no other rank exists.

Stages send each other shapes in messages, whose contents a fake tensor lacks. All stages exchange
the same hidden states, so the shape is known here; the messages are still sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from deepspeed.runtime.pipe import p2p
from deepspeed.runtime.pipe.engine import TENSOR_META_SIZE, PipelineEngine
from deepspeed.runtime.utils import PartitionedTensor, partition_uniform
from deepspeed.runtime.zero import utils as zero_utils

from configs.schema import Precision
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.trace.fake_world import replace
from parallel.runtime.dtypes import DTYPES


@contextmanager
def shapes_known(shape: ModelShape, layout: Layout, precision: Precision) -> Iterator[None]:
    """Lets DeepSpeed's engines be built and run inside the block."""
    tokens = shape.context // layout.context // (layout.tensor if layout.sequence_parallel else 1)
    hidden = [tokens, layout.micro_batch, shape.hidden]
    with ExitStack() as undo:
        replace(
            undo, PipelineEngine, "_recv_tensor_meta", _receive_shape(hidden, DTYPES[precision])
        )
        replace(undo, PartitionedTensor, "from_meta", classmethod(_put_together(hidden)))
        # ZeRO 3 checks whether all ranks do the same.
        replace(undo, zero_utils, "get_lst_from_rank0", _same_as_rank0)
        replace(undo, zero_utils, "assert_lst_len_same_as_other_ranks", _as_long_as_rank0)
        yield


def _receive_shape(hidden: list[int], dtype: torch.dtype) -> Callable[..., Any]:
    """Replaces `_recv_tensor_meta`: receives the message, returns buffers of the known shape."""

    def receive(engine: Any, send_stage: int) -> Any:
        p2p.recv(torch.empty(TENSOR_META_SIZE, dtype=torch.int32, device=engine.device), send_stage)
        if not engine.is_pipe_partitioned:
            return engine._allocate_or_extend_buffers(0, hidden, dtype)
        parts = engine.grid.model_parallel_size
        size_of_meta = 1 + len(hidden) + 2 + parts + 1  # as PartitionedTensor.to_meta lists it
        return (
            engine._allocate_or_extend_buffers(0, [size_of_meta], torch.long),
            engine._allocate_or_extend_buffers(1, [math.prod(hidden) // parts], dtype),
        )

    return receive


def _put_together(hidden: list[int]) -> Callable[..., Any]:
    """Replaces `PartitionedTensor.from_meta`, which reads the shape from `meta`."""

    def from_meta(kind: Any, meta: Any, local_part: Any, group: Any) -> Any:
        made = kind(tensor=torch.ones(torch.distributed.get_world_size(group)), group=group)
        made.orig_size = list(hidden)
        made.orig_device = local_part.device
        made.local_data = local_part.detach()
        made.partition = partition_uniform(math.prod(hidden), made.num_parts)
        return made

    return from_meta


def _same_as_rank0(numbers: list[int]) -> list[int]:
    torch.distributed.broadcast(torch.tensor(numbers), 0)
    return numbers


def _as_long_as_rank0(numbers: list[int]) -> None:
    torch.distributed.broadcast(torch.tensor(len(numbers)), 0)
