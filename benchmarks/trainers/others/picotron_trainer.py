"""picotron's training step, for `benchmarks.trainers.other_trainers --picotron FOLDER`.

picotron (huggingface/picotron, Apache-2.0) trains Llamas, on CPU too: the same model as the
engine's. Beside a GPT-3 its model is given as many numbers in its matrices: three matrices of
8/3 x hidden in place of two of 4 x hidden.
Its optimizer is the one of its train.py, which neither clips nor decays anything apart.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.trainers.others.torch_trainer import Step
from configs.settings.network import Mlp
from models.shape import ModelShape
from parallel.layout import Layout


def picotron_trainer(folder: Path, shape: ModelShape, layout: Layout) -> Step:
    """Of this rank. Collective. `folder`: a checkout of picotron."""
    os.environ |= {"FLASH_ATTEN": "0", "DEVICE": "cpu", "DTYPE": "float32"}
    _without_flash_attention()
    cuda: Any = torch.cuda
    cuda.synchronize = lambda: None  # its pipeline asks for it
    sys.path.insert(0, str(folder))
    from picotron import process_group_manager
    from picotron.data_parallel.data_parallel import DataParallelBucket
    from picotron.model import Llama
    from picotron.pipeline_parallel.pipeline_parallel import (
        PipelineParallel,
        train_step_pipeline_1f1b,
    )
    from picotron.tensor_parallel.tensor_parallel import apply_tensor_parallel

    process_group_manager.setup_process_group_manager(
        tp_size=layout.tensor, cp_size=1, pp_size=layout.pipeline, dp_size=layout.data
    )
    torch.manual_seed(0)
    config = _config(shape)
    model: Any = Llama(config)
    if layout.tensor > 1:
        model = apply_tensor_parallel(model)
    if layout.pipeline > 1:
        model = PipelineParallel(model, config)
    if layout.data > 1:
        model = DataParallelBucket(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-5)

    def step(micro_batches: list[Tensor]) -> float | None:
        optimizer.zero_grad()
        if layout.pipeline > 1:
            rows, length = micro_batches[0].shape
            shapes = (rows, length - 1, shape.hidden)
            loss = train_step_pipeline_1f1b(
                model, _Loader(micro_batches), shapes, torch.device("cpu"), torch.float32
            )
        else:
            loss = _train_step(model, micro_batches, layout)
        optimizer.step()
        if hasattr(model, "reset"):
            model.reset()
        return float(loss)

    return step


def _train_step(model: Any, micro_batches: list[Tensor], layout: Layout) -> float:
    """As train.py, where it cannot be imported from."""
    total = 0.0
    for number, tokens in enumerate(micro_batches, start=1):
        if layout.data > 1:
            model.require_backward_grad_sync = number == len(micro_batches)
        logits = model(input_ids=tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) / len(micro_batches)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


class _Loader:
    """What picotron's pipeline takes for its data loader."""

    def __init__(self, micro_batches: list[Tensor]) -> None:
        self.grad_acc_steps = len(micro_batches)
        self._left = iter(micro_batches)

    def __next__(self) -> dict[str, Tensor]:
        tokens = next(self._left)
        places = torch.arange(tokens.shape[1] - 1).expand(len(tokens), -1)
        return {
            "input_ids": tokens[:, :-1],
            "target_ids": tokens[:, 1:],
            "position_ids": places,
        }


def _config(shape: ModelShape) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.query_groups,
        max_position_embeddings=shape.context,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.feed_forward
        if shape.mlp is Mlp.swiglu
        else round(8 * shape.hidden / 3 / 16) * 16,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
    )


def _without_flash_attention() -> None:
    """picotron imports flash-attn even where it is told not to use it."""
    for name, function in (
        ("flash_attn", ""),
        ("flash_attn.flash_attn_interface", "flash_attn_func"),
        ("flash_attn.layers", ""),
        ("flash_attn.layers.rotary", "apply_rotary_emb"),
        ("flash_attn.ops", ""),
        ("flash_attn.ops.triton", ""),
        ("flash_attn.ops.triton.layer_norm", "layer_norm_fn"),
    ):
        module = types.ModuleType(name)
        if function:
            setattr(module, function, None)
        sys.modules.setdefault(name, module)
