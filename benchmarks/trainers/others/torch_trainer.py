"""GPT-3 trained by PyTorch's own parallelism, put together as torchtitan and tutorials do.

Tensor parallel by DTensor (`parallelize_module`, `loss_parallel`), pipeline parallel by
`torch.distributed.pipelining`'s 1F1B, data parallel by DistributedDataParallel that reduces with
the last micro-batch. Dense attention by scaled_dot_product_attention, fused AdamW, clipping.

Shape suffixes: B samples, T tokens, D hidden, N heads, H head width, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from configs.schema import OptimizerConfig
from models.shape import ModelShape
from parallel.layout import Layout

Step = Callable[[list[Tensor]], float | None]
"""Micro-batches [B, T + 1] of this rank to the loss where it is known: on a last stage."""


class Layer(nn.Module):
    """As in `plain_gpt`, but that q, k and v are apart, so that each splits by heads."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        width = shape.hidden
        self.head_width = shape.head_width
        self.norm_1 = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, shape.feed_forward)
        self.down = nn.Linear(shape.feed_forward, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self._attend(self.norm_1(x_BTD))
        return x_BTD + self.down(F.gelu(self.up(self.norm_2(x_BTD)), approximate="tanh"))

    def _attend(self, x_BTD: Tensor) -> Tensor:
        q_BNTH, k_BNTH, v_BNTH = (
            project(x_BTD).unflatten(2, (-1, self.head_width)).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )
        y_BNTH = F.scaled_dot_product_attention(q_BNTH, k_BNTH, v_BNTH, is_causal=True)
        return self.out(y_BNTH.transpose(1, 2).flatten(2))


class Stage(nn.Module):
    """Some of the layers; the embedding with the first, the output with the last."""

    def __init__(self, shape: ModelShape, layers: range) -> None:
        super().__init__()
        self.is_first, self.is_last = layers.start == 0, layers.stop == shape.layers
        if self.is_first:
            self.tokens = nn.Embedding(shape.vocab, shape.hidden)
            self.positions = nn.Parameter(torch.empty(shape.context, shape.hidden))
        self.layers = nn.ModuleList(Layer(shape) for _ in layers)
        if self.is_last:
            self.norm = nn.LayerNorm(shape.hidden)
            self.logits = nn.Linear(shape.hidden, shape.vocab, bias=False)
        if self.is_first and self.is_last:
            self.logits.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T] or activations [B, T, D] to activations or logits [B, T, V]."""
        if self.is_first:
            x = self.tokens(x) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.logits(self.norm(x)) if self.is_last else x


def torch_trainer(shape: ModelShape, layout: Layout, adam: OptimizerConfig) -> Step:
    """Of this rank, under tensor, pipeline or data parallelism over the whole world. Collective."""
    torch.manual_seed(0)
    if layout.pipeline > 1:
        return _pipeline(shape, layout, adam)
    whole = Stage(shape, range(shape.layers))
    if layout.tensor > 1:
        return _tensor(whole, adam)
    return _data(DistributedDataParallel(whole, gradient_as_bucket_view=True), adam)


def _tensor(model: Stage, adam: OptimizerConfig) -> Step:
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    expected = copy.deepcopy(model)
    plan: dict[str, Any] = {
        "tokens": RowwiseParallel(input_layouts=Replicate(), use_local_output=True),
        "logits": ColwiseParallel(use_local_output=False),
    }
    for number in range(len(model.layers)):
        columns = {f"layers.{number}.{name}": ColwiseParallel() for name in ("q", "k", "v", "up")}
        rows = {f"layers.{number}.{name}": RowwiseParallel() for name in ("out", "down")}
        plan |= columns | rows
    parallelize_module(model, mesh, plan)
    model.logits.weight = model.tokens.weight
    update = _updating(model, adam)

    def loss_of(whole: Stage, tokens: Tensor) -> Tensor:
        logits_BTV = whole(tokens[:, :-1])
        return F.cross_entropy(logits_BTV.flatten(0, 1), tokens[:, 1:].flatten())

    def step(micro_batches: list[Tensor]) -> float:
        total = torch.zeros(())
        with loss_parallel():
            for tokens in micro_batches:
                loss = loss_of(model, tokens) / len(micro_batches)
                loss.backward()  # type: ignore[no-untyped-call]
                total += _whole(loss.detach())
        update()
        return float(total)

    tokens = torch.arange(model.positions.shape[0] + 1)[None] % expected.logits.out_features
    with torch.no_grad(), loss_parallel():
        torch.testing.assert_close(_whole(loss_of(model, tokens)), loss_of(expected, tokens))
    return step


def _data(model: DistributedDataParallel, adam: OptimizerConfig) -> Step:
    update = _updating(model, adam)

    def step(micro_batches: list[Tensor]) -> float:
        total = torch.zeros(())
        for number, tokens in enumerate(micro_batches, start=1):
            is_last = number == len(micro_batches)
            with nullcontext() if is_last else model.no_sync():
                logits_BTV = model(tokens[:, :-1])
                loss = F.cross_entropy(logits_BTV.flatten(0, 1), tokens[:, 1:].flatten())
                (loss / len(micro_batches)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / len(micro_batches)
        update()
        return float(total)

    return step


def _pipeline(shape: ModelShape, layout: Layout, adam: OptimizerConfig) -> Step:
    rank, stages = torch.distributed.get_rank(), layout.pipeline
    model = Stage(shape, layout.layers_of(rank, 0, shape.layers))
    update = _updating(model, adam, over_stages=True)
    stage = PipelineStage(model, rank, stages, torch.device("cpu"))
    schedules: dict[int, Schedule1F1B] = {}

    def loss_of(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
        return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten())

    def step(micro_batches: list[Tensor]) -> float | None:
        count = len(micro_batches)
        if count not in schedules:
            schedules[count] = Schedule1F1B(stage, count, loss_of)
        tokens = torch.cat(micro_batches)
        losses: list[Tensor] = []
        if model.is_first:
            schedules[count].step(tokens[:, :-1])
        else:
            schedules[count].step(target=tokens[:, 1:], losses=losses)
        update()
        return float(torch.stack(losses).mean()) if losses else None

    return step


def _updating(
    model: nn.Module, adam: OptimizerConfig, *, over_stages: bool = False
) -> Callable[[], None]:
    """Clips the gradients, takes AdamW's step with them and lets them go."""
    parameters = list(model.parameters())
    # Torch's fused calls take DTensors or tensors, not both.
    split = [p for p in parameters if isinstance(p, DTensor)]
    sides = [side for side in (split, [p for p in parameters if p not in set(split)]) if side]
    optimizer = torch.optim.AdamW(
        [
            {"params": chosen, "weight_decay": decay}
            for side in sides
            for chosen, decay in (
                ([p for p in side if p.dim() > 1], adam.weight_decay),
                ([p for p in side if p.dim() == 1], 0.0),
            )
            if chosen
        ],
        lr=adam.learning_rate / 10,
        betas=(adam.beta1, adam.beta2),
        eps=adam.epsilon,
        fused=True,
    )

    def update() -> None:
        norms = [
            _whole(nn.utils.get_total_norm([cast(Tensor, p.grad) for p in side])) for side in sides
        ]
        norm = torch.stack(norms).norm()
        if over_stages:
            norm = norm.square()
            torch.distributed.all_reduce(norm)
            norm = norm.sqrt()
        scale = min(1.0, adam.clip / (float(norm) + 1e-6))
        for side in sides if scale < 1 else []:
            torch._foreach_mul_([cast(Tensor, p.grad) for p in side], scale)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
