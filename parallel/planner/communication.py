"""What goes over the links in one step, by formula. Imports no torch.

The formulas were read off the engines (Megatron-core 0.16.1, DeepSpeed 0.19.8) and hold to the byte
for what a rank counts in a settled step; `deepspeed_traffic` says where they are approximate.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.schema import DeviceName, EngineName, Precision, Recompute
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.communication_groups import Ledger
from parallel.planner.traffic import Group, Kind, Traffic

FLOAT = 4  # bytes; gradients are added up in float32
DOUBLE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of one stage, and what both engines' formulas need of it."""

    shape: ModelShape
    layout: Layout
    stage: int
    precision: Precision
    micro_batches: int
    device: DeviceName
    clips: bool

    @property
    def number(self) -> int:
        """Bytes of a number of the model and of its activations."""
        return FLOAT if self.precision is Precision.float32 else 2

    @property
    def tokens(self) -> int:
        """Of a micro-batch."""
        return self.shape.context * self.layout.micro_batch

    @property
    def hidden(self) -> int:
        """Bytes of the hidden states of a micro-batch, of all tokens."""
        return self.tokens * self.shape.hidden * self.number

    @property
    def message(self) -> int:
        """Bytes of the hidden states that a rank holds between layers."""
        return self.hidden // (self.layout.tensor if self.layout.sequence_parallel else 1)

    @property
    def first(self) -> bool:
        return self.stage == 0

    @property
    def last(self) -> bool:
        return self.stage == self.layout.logits_stage

    @property
    def layers(self) -> int:
        return sum(map(len, self.layout.layers_on(self.stage, self.shape.layers)))

    @property
    def embedding(self) -> int:
        """Numbers of the rank's part of the word embedding."""
        return self.shape.padded_vocab // self.layout.tensor * self.shape.hidden

    @property
    def own_tokens_parameters(self) -> list[int]:
        """Numbers of each parameter that under sequence parallel sees only the rank's tokens."""
        norms_and_biases = [self.shape.hidden] * (6 * self.layers + 2 * self.last)
        return norms_and_biases if self.layout.sequence_parallel else []


def step_traffic(
    shape: ModelShape,
    layout: Layout,
    engine: EngineName,
    *,
    stage: int,
    precision: Precision,
    micro_batches: int,
    device: DeviceName,
    clips: bool = True,
) -> list[Traffic]:
    """The collectives of each rank of `stage` in one step that is not the first.

    Args:
        micro_batches: that each data rank runs.
        device: whose settings the engine has; they decide on buckets.
        clips: whether optimizer.clip is above 0.
    """
    from parallel.planner.communication_deepspeed import deepspeed_traffic
    from parallel.planner.communication_megatron import megatron_traffic

    step = Step(
        shape=shape,
        layout=layout,
        stage=stage,
        precision=precision,
        micro_batches=micro_batches,
        device=device,
        clips=clips,
    )
    ledger = Ledger(layout, stage)
    layers(step, ledger)
    if engine is EngineName.megatron:
        megatron_traffic(step, ledger)
    else:
        deepspeed_traffic(step, ledger)
    return ledger.traffic()


def layers(step: Step, ledger: Ledger) -> None:
    """Inside of the tensor groups, which both engines' layers use alike.

    Each of a layer's two pairs of matmuls adds up its output in the forward pass and the gradient
    of its input in the backward pass. Under sequence parallel each sum is a scatter and a gather,
    and what was gathered for a matmul is gathered again for its weights' gradient. The embedding
    adds up its output; the logits, the gradient of their input.
    """
    m, forward = step.micro_batches, 1 + (step.layout.recompute is Recompute.full)
    if step.layout.sequence_parallel:
        gathers = step.layers * (4 + 2 * forward) + step.first + 2 * step.last
        scatters = step.layers * (2 + 2 * forward) + step.last
        ledger.add(Group.tensor, Kind.all_gather, step.hidden, m * gathers)
        ledger.add(Group.tensor, Kind.reduce_scatter, step.hidden, m * scatters)
        ledger.add(Group.tensor, Kind.all_reduce, step.hidden, m * step.first)
    else:
        sums = step.layers * (2 + 2 * forward) + step.first + step.last
        ledger.add(Group.tensor, Kind.all_reduce, step.hidden, m * sums)
    # The largest logit of each token, the label's, and the sum of the exponentials.
    ledger.add(Group.tensor, Kind.all_reduce, step.tokens * FLOAT, 3 * m * step.last)


def layer_sizes(shape: ModelShape, tensor: int) -> list[int]:
    """Numbers of each parameter of a layer on one rank, in the order in which it holds them."""
    h, split = shape.hidden, shape.hidden * shape.hidden // tensor
    norm, projection, qkv = [h, h], [split, h], [3 * split, 3 * h // tensor]
    return [*norm, *projection, *qkv, *norm, 4 * split, 4 * h // tensor, 4 * split, h]
