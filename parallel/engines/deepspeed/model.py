"""One rank's part of a model under DeepSpeed: built, initialized, with global names."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from functools import partial
from typing import Any

import torch
from deepspeed.pipe import LayerSpec, PipelineModule, TiedLayerSpec
from deepspeed.runtime.zero import GatheredParameters, Init
from megatron.core import parallel_state
from megatron.core.transformer import TransformerConfig
from torch import Tensor, nn

from models.shape import ModelShape
from models.training.gpt import build_gpt
from models.training.pipeline import LAYER, LayerEntry, WordEmbedding, layer_list, mean_loss
from parallel.engines.deepspeed.groups import TensorAndDataRanks, topology
from parallel.engines.megatron.model import check_layers, name_parameters
from parallel.engines.named_parameters import NamedParameter, initial_value, part_here, unfused
from parallel.layout import Layout
from parallel.runtime.device import Device
from parallel.runtime.process_groups import copies_group

_TIED_KEY = "embedding"


def build_whole(
    shape: ModelShape,
    layout: Layout,
    config: TransformerConfig,
    device: Device,
    seed: int,
    deepspeed_config: dict[str, Any],
) -> tuple[nn.Module, list[NamedParameter]]:
    """Without a pipeline: the `megatron` engine's model, partitioned as it is built in ZeRO 3."""
    sharded = layout.zero == 3
    mpu = TensorAndDataRanks()
    within = (
        Init(data_parallel_group=copies_group(), config_dict_or_path=deepspeed_config, mpu=mpu)
        if sharded
        else nullcontext()
    )
    with within:
        model = build_gpt(
            shape,
            config,
            range(shape.layers),
            transformer_engine=config.transformer_engine,
        ).to(device.torch_device)
    check_layers(model, range(shape.layers))
    parameters = list(name_parameters(model, shape, layout))
    for named in parameters:
        set_parameter(named, initial_value(named, shape, seed))
    return model, parameters


def build_pipeline(
    shape: ModelShape, layout: Layout, config: TransformerConfig, device: Device, seed: int
) -> tuple[PipelineModule, list[NamedParameter]]:
    """With a pipeline: this rank's stage of the layer list."""
    entries = layer_list(shape, config, transformer_engine=config.transformer_engine)
    kind = PipelineModule
    if layout.dualpipev:
        from deepspeed.runtime.pipe.dualpipev import DualPipeVModule

        kind = DualPipeVModule
    with redirect_stdout(io.StringIO()):  # it prints the partition, which layout.txt has already
        model = kind(
            layers=[_spec(entry) for entry in entries],
            topology=topology(layout),
            loss_fn=partial(mean_loss, config=config, shape=shape),
            partition_method=f"type:^{LAYER}$",
        )
    _check_cut(model, layout, shape.layers)
    parameters = list(_name(model, entries, shape, layout))
    for named in parameters:
        set_parameter(named, initial_value(named, shape, seed))
    return model.to(device.torch_device), parameters


@torch.no_grad()
def set_parameter(named: NamedParameter, value: Tensor) -> None:
    """Sets a parameter's value; collective over the data ranks under ZeRO 3."""
    with GatheredParameters(
        [named.tensor], modifier_rank=0, enabled=hasattr(named.tensor, "ds_id")
    ):
        named.tensor.copy_(value)


def _spec(entry: LayerEntry) -> LayerSpec:
    if entry.kind is not WordEmbedding:
        return LayerSpec(entry.kind, *entry.arguments)
    return TiedLayerSpec(
        _TIED_KEY,
        entry.kind,
        *entry.arguments,
        forward_fn=WordEmbedding.logits if entry.logits else None,
        tied_weight_attr="word_embeddings.weight",
    )


def _check_cut(model: PipelineModule, layout: Layout, layers: int) -> None:
    """DeepSpeed partitions the list itself and may leave stages empty silently; checks it."""
    pieces = sorted(
        (
            layout.layers_of(stage, chunk, layers)
            for stage in range(layout.pipeline)
            for chunk in range(layout.chunks_per_stage)
        ),
        key=lambda piece: piece.start,
    )
    before = 2  # embeddings of words and of positions
    inner = [before + piece.start for piece in pieces[1:]]
    expected = [0, *inner, before + layers + 2]  # then the last norm and the logits
    assert list(model.parts) == expected, f"DeepSpeed cuts at {model.parts}, not at {expected}"


def _name(
    model: PipelineModule, entries: list[LayerEntry], shape: ModelShape, layout: Layout
) -> Iterator[NamedParameter]:
    stage = parallel_state.get_pipeline_model_parallel_rank()
    for local_name, tensor in model.named_parameters():
        if match := re.match(rf"tied_modules\.{_TIED_KEY}\.(.+)", local_name):
            name, copy = f"{entries[0].prefix}.{match[1]}", stage > 0
        else:
            number, rest = local_name.split(".", 1)
            prefix = entries[int(number)].prefix
            name, copy = unfused(f"{prefix}.{rest}" if prefix else rest), False
        yield NamedParameter(tensor, part_here(name, shape, layout), copy)
