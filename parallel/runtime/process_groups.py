"""Process groups: turns the Layout's rank lists into communicators, through Megatron-core.

Megatron decides which ranks call `new_group` in which order; every rank checks here that the
resulting groups match the Layout.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from megatron.core import parallel_state, tensor_parallel

from parallel.layout import Layout
from parallel.runtime.device import backend_timeout

CHECKPOINTS = "checkpoints"  # name of the group below
SAVED_WITHIN = datetime.timedelta(days=1)  # a lost rank is detected by its broken connections


def checkpoint_group() -> torch.distributed.ProcessGroup:
    """All ranks, for coordinating saves while training goes on. Collective."""
    return torch.distributed.new_group(backend="gloo", timeout=SAVED_WITHIN, group_desc=CHECKPOINTS)


def data_group() -> torch.distributed.ProcessGroup:
    """The ranks that read other samples than this one, for the same part of the model."""
    return parallel_state.get_data_parallel_group()


def data_rank() -> int:
    """This rank's index in its `data_group`."""
    return int(parallel_state.get_data_parallel_rank())


def copies_group() -> torch.distributed.ProcessGroup:
    """The ranks that hold the same part of the model as this one: data x context."""
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def expert_copies_group() -> torch.distributed.ProcessGroup:
    """The ranks that hold the same experts as this one."""
    return parallel_state.get_expert_data_parallel_group()


@contextmanager
def process_groups(
    layout: Layout, seed: int, timeout_s: int = 600, *, graphs: bool = False
) -> Iterator[None]:
    """Creates the groups of `layout` over the default process group, and destroys them at the end.

    Args:
        timeout_s: launch.timeout_s.
        graphs: cuda.graphs, which need random numbers that a graph can hold.
    """
    timeout = backend_timeout(timeout_s)
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=layout.tensor,
        context_parallel_size=layout.context,
        expert_model_parallel_size=layout.expert,
        expert_tensor_parallel_size=layout.expert_tensor,
        pipeline_model_parallel_size=layout.pipeline,
        virtual_pipeline_model_parallel_size=layout.interleave if layout.interleave > 1 else None,
        create_gloo_process_groups=False,
        distributed_timeout_minutes=math.ceil(timeout / datetime.timedelta(minutes=1)),
    )
    try:
        _check_groups(layout)
        tensor_parallel.model_parallel_cuda_manual_seed(
            seed, force_reset_rng=True, use_cudagraphable_rng=graphs
        )
        yield
    finally:
        parallel_state.destroy_model_parallel()


def _check_groups(layout: Layout) -> None:
    rank = torch.distributed.get_rank()
    made = {
        "tensor": parallel_state.get_tensor_model_parallel_group(),
        "context": parallel_state.get_context_parallel_group(),
        "data": parallel_state.get_data_parallel_group(),
        "pipeline": parallel_state.get_pipeline_model_parallel_group(),
    }
    groups = {axis: (group, layout.groups(axis)) for axis, group in made.items()}
    groups["expert"] = (
        parallel_state.get_expert_model_parallel_group(),
        layout.expert_groups("expert"),
    )
    groups["expert tensor"] = (
        parallel_state.get_expert_tensor_parallel_group(),
        layout.expert_groups("expert_tensor"),
    )
    groups["expert data"] = expert_copies_group(), layout.expert_groups("expert_data")
    for axis, (group, meant) in groups.items():
        ranks = torch.distributed.get_process_group_ranks(group)
        expected = next(ranks for ranks in meant if rank in ranks)
        assert ranks == expected, (
            f"{axis} group of rank {rank}: {ranks}, the layout says {expected}"
        )
