"""One rank's chunks of a model under Megatron-core: built, initialized, with global names."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import Float16Module
from megatron.core.transformer.moe.moe_layer import MoELayer

from configs.schema import DeviceName, Precision, Run
from models.layer_table import OUTPUT, WORDS
from models.ops.attention.banded import attention_backend
from models.shape import ModelShape
from models.training.gpt import GPT, build_gpt
from parallel.engines.cuda_features import CudaFeatures
from parallel.engines.megatron.config import ddp_config, uses_transformer_engine
from parallel.engines.named_parameters import (
    NamedParameter,
    global_expert,
    initial_value,
    part_here,
    unfused,
)
from parallel.layout import Layout
from parallel.runtime.device import Device
from parallel.runtime.dtypes import DTYPES


def build_chunks(
    shape: ModelShape,
    layout: Layout,
    config: TransformerConfig,
    precision: Precision,
    device: Device,
    seed: int,
    features: CudaFeatures,
) -> tuple[list[DistributedDataParallel], list[NamedParameter]]:
    """This rank's chunks, wrapped for data parallelism, and their parameters by global name."""
    stage = parallel_state.get_pipeline_model_parallel_rank()
    chunks = []
    for number, layers in enumerate(layout.layers_on(stage, shape.layers)):
        chunk = build_gpt(
            shape,
            config,
            layers,
            chunk=number if layout.interleave > 1 else None,
            transformer_engine=config.transformer_engine,
        )
        check_layers(chunk, layers)
        chunks.append(chunk.to(device.torch_device))
    parameters = [named for chunk in chunks for named in name_parameters(chunk, shape, layout)]
    reduce_experts_apart(parameters)
    _initialise(parameters, shape, seed)
    wrapped = [
        chunk if precision is Precision.float32 else Float16Module(config, chunk)
        for chunk in chunks
    ]
    data_parallel = [
        DistributedDataParallel(
            config=config,
            ddp_config=ddp_config(layout, device.name, features),
            module=module,
            # Only the first chunk's buckets can overlap with the backward pass of others.
            disable_bucketing=number > 0,
        )
        for number, module in enumerate(wrapped)
    ]
    return data_parallel, parameters


def banded_attention_by(run: Run, shape: ModelShape, device: DeviceName) -> str | None:
    """The implementation of banded attention; None if no layer is banded."""
    if not any(shape.is_banded(layer) for layer in range(shape.layers)):
        return None
    engine = uses_transformer_engine(device, run.cuda, run.precision, run.layout.zero)
    if engine and run.layout.context == 1:
        return "Transformer Engine"
    return str(attention_backend(device.value, DTYPES[run.precision]))


def check_layers(chunk: GPT, layers: range) -> None:
    """Asserts that the chunk consists of exactly these layers (from 0)."""
    # Megatron has silently trained 64 of 80 layers: count what was built.
    built = [layer.layer_number - 1 for layer in chunk.decoder.layers]
    assert built == list(layers), f"built layers {built}, the layout says {list(layers)}"


def reduce_experts_apart(parameters: list[NamedParameter]) -> None:
    """Marks experts' parameters, as Megatron-core does only if there are expert ranks.

    Tensor ranks that do not share an expert have copies of it, which see other tokens.
    """
    for named in parameters:
        if named.at.expert:
            named.tensor.allreduce = False  # type: ignore[attr-defined]


def name_parameters(chunk: GPT, shape: ModelShape, layout: Layout) -> Iterator[NamedParameter]:
    """The chunk's parameters, each with its global name and this rank's shard."""
    for local_name, tensor in chunk.named_parameters():
        name = _global_name(local_name, chunk)
        tied_copy = shape.tied and name == OUTPUT
        yield NamedParameter(
            tensor, part_here(WORDS if tied_copy else name, shape, layout), tied_copy
        )


def _global_name(local_name: str, chunk: GPT) -> str:
    """Converts layer numbers within a chunk, which Megatron uses, to global ones."""
    local_name = unfused(local_name)
    if not local_name.startswith("decoder.layers."):
        return local_name
    _, _, number, rest = local_name.split(".", 3)
    layer = chunk.decoder.layers[int(number)]
    if isinstance(layer.mlp, MoELayer):
        rest = global_expert(rest, layer.mlp.local_expert_indices[0])
    return f"decoder.layers.{layer.layer_number - 1}.{rest}"


@torch.no_grad()
def _initialise(parameters: list[NamedParameter], shape: ModelShape, seed: int) -> None:
    for named in parameters:
        named.tensor.copy_(initial_value(named, shape, seed))
