"""DeepSpeed's process groups, made consistent with the Layout's."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from deepspeed.runtime.zero import Init
from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload
from deepspeed.utils import groups
from megatron.core import parallel_state

from parallel.layout import Layout
from parallel.runtime.process_groups import copies_group


def topology(layout: Layout) -> PipeModelDataParallelTopology:
    """DeepSpeed's pipeline topology; raises if its rank lists differ from the Layout's.

    Ranks of a context group are data ranks to it: their gradients are averaged in the same way.
    """
    made = PipeModelDataParallelTopology(
        num_pp=layout.pipeline, num_mp=layout.tensor, num_dp=layout.copies
    )
    meant = {
        "model": layout.groups("tensor"),
        "data": layout.copy_groups(),
        "pipe": layout.groups("pipeline"),
    }
    for axis, expected in meant.items():
        ranks = made.get_axis_comm_lists(axis)
        assert sorted(ranks) == sorted(expected), (
            f"{axis} groups of DeepSpeed: {ranks}, the layout says {expected}"
        )
    return made


class TensorAndDataRanks:
    """The `mpu` that DeepSpeed uses without a pipeline: Megatron's groups."""

    def get_model_parallel_rank(self) -> int:
        """This rank's index in its tensor group."""
        return parallel_state.get_tensor_model_parallel_rank()

    def get_model_parallel_world_size(self) -> int:
        """The size of the tensor group."""
        return parallel_state.get_tensor_model_parallel_world_size()

    def get_model_parallel_group(self) -> Any:
        """The tensor group."""
        return parallel_state.get_tensor_model_parallel_group()

    get_tensor_model_parallel_rank = get_model_parallel_rank
    get_tensor_model_parallel_world_size = get_model_parallel_world_size
    get_tensor_model_parallel_group = get_model_parallel_group

    def get_data_parallel_rank(self) -> int:
        """This rank's index among those that hold the same parameters."""
        return copies_group().rank()

    def get_data_parallel_world_size(self) -> int:
        """How many ranks hold the same parameters."""
        return copies_group().size()

    def get_data_parallel_group(self) -> Any:
        """The ranks that ZeRO shards over: data x context."""
        return copies_group()


@contextmanager
def deepspeed_world() -> Iterator[None]:
    """Gives DeepSpeed the existing process group; resets its state afterwards.

    DeepSpeed keeps groups in globals, which would outlive their process group.
    """
    os.environ.setdefault("LOCAL_RANK", "0")  # required by DeepSpeed, unset in a single process
    # Needed for inference only, and takes half a minute to compile otherwise.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # It logs every setting, and torch warns about each call that it replaces.
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    accelerator = get_accelerator()
    if accelerator.device_name() == "cpu":
        # DeepSpeed requires fp16 instructions; torch works without them, slowly.
        accelerator.is_fp16_supported = lambda: True
    backend = torch.distributed.get_backend()
    deepspeed.init_distributed(dist_backend=backend, dist_init_required=False, verbose=False)
    try:
        yield
    finally:
        groups._release_process_group_references()
        deepspeed.comm.comm.cdb = None
        # Ranks must number parameters and modules alike, whatever each did before.
        Init.param_id = 0
        (numbering,) = DeepSpeedZeRoOffload._register_deepspeed_module.__defaults__
        numbering[0] = 0
