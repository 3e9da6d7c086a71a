"""Communication per step, by formula. Imports no torch.

The formulas were derived from the engines' code (Megatron-core 0.16.1, DeepSpeed 0.19.8) and match
a rank's measured bytes exactly in steady state; `deepspeed_traffic` notes where they approximate.
"""

from __future__ import annotations

from configs.schema import DeviceName, EngineName, OptimizerName, Precision, Recompute
from configs.settings.cuda import CudaConfig
from configs.settings.network import Positions, QkNorm
from models.shape import ModelShape
from parallel.engines.cuda_features import cuda_features
from parallel.engines.registry import ENGINES
from parallel.layout import Layout
from parallel.planner.communication.context import layer_messages
from parallel.planner.communication.experts import (
    capacity_messages,
    expert_messages,
    load_messages,
    statistics_bytes,
)
from parallel.planner.communication.groups import Ledger
from parallel.planner.communication.muon import muon_traffic
from parallel.planner.communication.stage_step import FLOAT, Step
from parallel.planner.communication.traffic import CollectiveKind, Group, Traffic


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
    optimizer: OptimizerName = OptimizerName.adam,
    cuda: CudaConfig | None = None,
    context_rank: int = 0,
) -> list[Traffic]:
    """The collectives of each rank of `stage` in a step other than the first.

    Args:
        micro_batches: per data rank.
        device: selects the engine's settings, which determine buckets.
        clips: whether optimizer.clip is above 0.
        cuda: None: the defaults.
        context_rank: of the first rank by default; others send more or fewer tokens of a window.
    """
    step = Step(
        shape=shape,
        layout=layout,
        stage=stage,
        precision=precision,
        micro_batches=micro_batches,
        device=device,
        clips=clips,
        optimizer=optimizer,
        features=cuda_features(cuda or CudaConfig(), layout, engine, precision, device),
        context_rank=context_rank,
    )
    ledger = Ledger(layout, stage)
    layers(step, ledger)
    attention(step, ledger)
    if shape.moe.experts:
        experts(step, ledger)
    ENGINES[engine].load("traffic")(step, ledger)
    if optimizer is OptimizerName.muon:
        muon_traffic(step, ledger)
    return ledger.traffic()


def attention(step: Step, ledger: Ledger) -> None:
    """Traffic between the ranks that share sequences; recomputed attention communicates again."""
    forward = 1 + (step.layout.recompute is not Recompute.none)
    for banded, count in ((False, step.layers - step.banded_layers), (True, step.banded_layers)):
        messages = layer_messages(
            step.shape, step.layout, step.number, banded=banded, rank=step.context_rank
        )
        for each in messages.forward * forward + messages.backward:
            times = step.micro_batches * count * each.count
            ledger.add(Group.context, each.kind, each.bytes, times)


def experts(step: Step, ledger: Ledger) -> None:
    """Traffic that brings tokens to their experts, which recomputed layers repeat; and the loads
    that the balance of experts looks at.
    """
    shape, layout = step.shape, step.layout
    times = step.micro_batches * step.expert_layers
    messages = expert_messages(shape, layout, step.number)
    forward = 1 + (layout.recompute is Recompute.full)
    ahead = (messages.forward + capacity_messages(shape, layout)) * forward
    for each in (*ahead, *load_messages(shape, layout), *messages.backward):
        # gloo exchanges what is of uneven parts.
        uneven = step.device is DeviceName.cpu and each.group is Group.expert_tensor
        kind = CollectiveKind.all_to_all if uneven else each.kind
        ledger.add(each.group, kind, each.bytes, times)
    ledger.add(Group.world, CollectiveKind.all_reduce, statistics_bytes(shape))


def layers(step: Step, ledger: Ledger) -> None:
    """Traffic within the tensor groups, which is the same for both engines' layers.

    Each of a layer's two pairs of matmuls (of one with experts, attention's and a shared expert's)
    all-reduces its output in the forward pass and the
    gradient of its input in the backward pass. With sequence parallelism each becomes a
    reduce-scatter and an all-gather, and what was gathered for a matmul is gathered again for its
    weights' gradient. The embedding all-reduces its output, or scatters it unless learned positions
    follow; the logits all-reduce their input's gradient.
    """
    m, forward = step.micro_batches, 1 + (step.layout.recompute is Recompute.full)
    if step.layout.sequence_parallel:
        gathers = step.pairs * (2 + forward) + step.first + 2 * step.last
        scatters = step.pairs * (1 + forward) + step.last
        ledger.add(Group.tensor, CollectiveKind.all_gather, step.hidden, m * gathers)
        # Learned positions are added to all tokens, so that their vectors are summed before.
        learned = step.shape.positions is Positions.learned
        scatters += step.first and not learned
        sums = m * (step.first and learned)
        ledger.add(Group.tensor, CollectiveKind.reduce_scatter, step.hidden, m * scatters)
        ledger.add(
            Group.tensor, CollectiveKind.all_reduce, step.hidden, m * (step.first and learned)
        )
    else:
        sums = step.pairs * (1 + forward) + step.first + step.last
        ledger.add(Group.tensor, CollectiveKind.all_reduce, step.hidden, m * sums)
    if step.shape.qk_norm is QkNorm.full:  # squares forward, means backward, of queries and of keys
        sums = 2 * step.layers * (1 + forward)
        ledger.add(Group.tensor, CollectiveKind.all_reduce, step.tokens * FLOAT, m * sums)
    # The largest logit of each token, the label's, and the sum of the exponentials, which
    # `models.ops.cross_entropy` and Megatron-core's fused loss send together.
    each = step.tokens * FLOAT
    if step.device is DeviceName.cpu or step.features.cross_entropy_fusion:
        ledger.add(Group.tensor, CollectiveKind.all_reduce, each, m * step.last)
        ledger.add(Group.tensor, CollectiveKind.all_reduce, 2 * each, m * step.last)
    else:
        ledger.add(Group.tensor, CollectiveKind.all_reduce, each, 3 * m * step.last)
