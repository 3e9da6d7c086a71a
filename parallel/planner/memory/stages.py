"""The peak memory of each stage's ranks, by category, in bytes.

Activations follow Korthikanti et al. 2022, section 4, by the numbers of `models.layer_table`, and
without dropout masks. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

from configs.schema import ExpertBy, OptimizerName, Recompute, Schedule
from models.layer_table import expert_matrix_numbers, layer_matrix_numbers
from parallel.layout import Layout
from parallel.parameter_count import Numbers, rank_numbers
from parallel.planner.inputs.calibration import Overheads
from parallel.planner.inputs.job import OURS, Job
from parallel.planner.memory.megatron import FLOAT32
from parallel.planner.memory.moment import Moment
from parallel.planner.schedule.order import orders

MOMENTS = 8  # bytes per element of Adam's two moments
MOMENTUM = 4  # bytes per element of Muon's
MASTER = 4  # bytes per element of the float32 copy
SCORES_BYTES = 5  # per materialised score: softmax's output, dropout's output and mask
AS_TENSORS = Overheads()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one rank at the peak."""

    parameters: float = 0
    gradients: float = 0
    optimizer: float = 0
    activations: float = 0
    logits: float = 0
    buffers: float = 0
    framework: float = 0

    @property
    def total(self) -> float:
        """Bytes of all categories."""
        return sum(getattr(self, name) for name in CATEGORIES)

    @property
    def allocated(self) -> float:
        """Bytes that torch's allocator hands out: all except the framework's own."""
        return self.total - self.framework


CATEGORIES: tuple[str, ...] = tuple(field.name for field in fields(Memory))


class Parts:
    """What a stage's memory is made of, in bytes."""

    def states(self, job: Job, stage: int) -> tuple[Numbers, float, float]:
        """The rank's numbers, its weights and its optimizer."""
        numbers = _numbers(job, stage)
        return (numbers, *_states(job, stage, numbers))

    def layer(self, job: Job, *, experts: bool) -> float:
        """As `layer_activations`."""
        return layer_activations(job, experts=experts)

    def logits(self, job: Job) -> float:
        """Logits in the run's precision, and their softmax in float32."""
        vocab = job.shape.vocab_on_rank(job.layout.tensor)
        return job.tokens * vocab * (job.number_bytes + FLOAT32)

    def experts(self, job: Job) -> float:
        """What a layer with experts works with."""
        return _expert_working(job)


PARTS = Parts()


def stage_memories(job: Job, overheads: Overheads = AS_TENSORS) -> list[Memory]:
    """One rank of each stage; all ranks of a stage are alike."""
    held = in_flight(job.layout, job.micro_batches)
    stages = range(job.layout.pipeline)
    return [stage_memory(job, stage, held[stage], overheads) for stage in stages]


def in_flight(layout: Layout, micro_batches: int) -> list[int]:
    """The maximum number of passes of a chunk whose activations each stage keeps at once.

    One more than a stage's warm-up has, in the orders of `parallel.planner.schedule.order`.
    """
    stages, chunks = layout.pipeline, layout.interleave
    if layout.dualpipev:
        # After the warm-up a schedule is periodic.
        return _in_flight(stages, min(micro_batches, 4 * stages))
    if chunks == 1:
        return [min(stages - stage, micro_batches) for stage in range(stages)]
    whole = micro_batches * chunks
    ahead = (chunks - 1) * stages + 1
    return [min(2 * (stages - stage - 1) + ahead, whole) for stage in range(stages)]


@cache
def _in_flight(stages: int, micro_batches: int) -> list[int]:
    most = []
    for ops in orders(Layout(pipeline=stages, schedule=Schedule.dualpipev), micro_batches):
        held = peak = 0
        for op in ops:
            held += 1 if op.forward else -1
            peak = max(peak, held)
        most.append(peak)
    return most


def stage_memory(
    job: Job, stage: int, held: int, overheads: Overheads, parts: Parts = PARTS
) -> Memory:
    """One rank of a stage.

    Args:
        held: passes of a chunk whose activations it keeps at once.
        parts: the same, remembered where thousands of layouts are compared.
    """
    logits = parts.logits(job) if stage == job.layout.logits_stage else 0.0
    kept, peak_layer = _activations(job, stage, held, parts)
    experts = parts.experts(job) if job.kinds_of(stage)[-1][0] else 0.0
    numbers, parameters, optimizer = parts.states(job, stage)

    def at(moment: Moment) -> Memory:
        there = moment.logits * logits
        # A layer's recomputed activations and the logits never exist at the same time; nor do
        # logits and what experts work with, which is gone when gradients are reduced.
        in_layer = peak_layer + (experts if moment.logits and moment.kept == 1 else 0.0)
        working = max(in_layer, there) - there
        return Memory(
            parameters=parameters,
            gradients=moment.gradients,
            optimizer=optimizer,
            activations=overheads.activations * (moment.kept * kept + working),
            logits=there,
            buffers=moment.buffers,
            framework=overheads.framework_gib * 2**30,
        )

    moments = job.kind.load("moments")(job, numbers, held)
    return max(map(at, moments), key=lambda memory: memory.total)


def _numbers(job: Job, stage: int) -> Numbers:
    if job.stage_layers is None:
        return rank_numbers(job.shape, job.layout, stage)
    h, tensor = job.shape.hidden, job.layout.tensor
    ends = stage in (0, job.layout.logits_stage)
    layers = job.stage_layers[stage] * job.shape.layers_on_rank([0])
    return Numbers((layers + ends * job.shape.padded_vocab(tensor) * h) // tensor)


def _states(job: Job, stage: int, numbers: Numbers) -> tuple[float, float]:
    """Weights, and the optimizer's moments and float32 copies, by ZeRO stage."""
    layout = job.layout
    masters = job.number_bytes == 2 or (job.kind.masters_of_float32 and layout.zero >= 1)
    master = MASTER if masters else 0
    weights, states = numbers.times(job.number_bytes), numbers.times(MOMENTS + master)
    if job.offloads:
        states = Numbers(0)
    elif job.optimizer is OptimizerName.muon:
        states = states.minus(_matrices(job, stage).times(MOMENTS - MOMENTUM))
    return (
        weights.shard(layout) if layout.zero == 3 else float(weights.total),
        states.shard(layout) if layout.zero >= 1 else float(states.total),
    )


def _matrices(job: Job, stage: int) -> Numbers:
    """Elements of a rank's matrices within layers."""
    every = experts = 0
    for routed, count in job.kinds_of(stage):
        form = job.shape.form(job.layer(experts=routed))
        every += count * layer_matrix_numbers(form, job.layout.cut)
        experts += count * expert_matrix_numbers(form, job.layout.cut)
    return Numbers(every - experts, experts)


def layer_activations(job: Job, *, experts: bool = False) -> float:
    """What one layer keeps of one micro-batch between its forward and backward pass.

    Args:
        experts: a layer with experts, of the rank that has the busiest.
    """
    shape, layout, number = job.shape, job.layout, job.number_bytes
    split = layout.tensor if layout.sequence_parallel else 1
    work = shape.work(job.layer(experts=experts))
    # Ours only: attention's output, transposed for the next linear.
    divided = work.kept_split + (shape.query if job.software == OURS else 0)
    kept = number * job.tokens * (work.kept / split + divided / layout.tensor)
    if experts:
        kept += _expert_activations(job, work.routed)
    heads = layout.micro_batch * shape.heads / layout.tensor / layout.context
    if job.flash:
        return kept + 4 * heads * shape.context  # the softmax's sums
    if job.recompute is Recompute.selective:
        return kept
    return kept + SCORES_BYTES * number / 2 * heads * shape.context**2


def _expert_activations(job: Job, inner: int) -> float:
    """Of routed experts: the rows that they read, and their activation's input and output; of the
    router each expert's score, its weight, and whether it is chosen.
    """
    shape, tokens = job.shape, job.routed_tokens
    rows = shape.moe.top_k * job.layout.expert_tensor * shape.hidden
    router = (2 * FLOAT32 + 1) * tokens * shape.moe.experts
    return job.number_bytes * tokens * job.busiest * (rows + inner) + router


def _expert_working(job: Job) -> float:
    """What a layer with experts holds beside at the end of its experts' forward pass.

    Rows as they were sent, unless they stay here as received; experts' outputs, one by one and put
    together. With all tokens gathered, these in place of the rows.
    """
    layout, ranks = job.layout, job.layout.expert * job.layout.expert_tensor
    row = job.number_bytes * job.shape.hidden
    sent = job.routed_tokens * job.shape.moe.top_k
    received = sent * layout.expert_tensor * job.busiest
    if layout.expert_by is ExpertBy.all_gather:
        return row * (ranks * job.routed_tokens + 2 * received)
    return row * ((ranks > 1) * sent + 3 * received)


def _activations(job: Job, stage: int, held: int, parts: Parts) -> tuple[float, float]:
    """Activations kept from forward to backward passes, and one layer's recomputed ones."""
    layout, chunks = job.layout, job.layout.chunks_per_stage
    split = layout.tensor if layout.sequence_parallel else 1
    hidden = job.number_bytes * job.tokens * job.shape.hidden / split
    kinds = [(count, parts.layer(job, experts=experts)) for experts, count in job.kinds_of(stage)]
    if job.recompute is Recompute.full:
        layers = job.layers_of(stage) / chunks
        return held * layers * hidden, max(layer for _, layer in kinds)
    again = 0.0
    if job.recompute is Recompute.selective and not job.flash:
        heads = layout.micro_batch * job.shape.heads / layout.tensor / layout.context
        again = SCORES_BYTES * job.number_bytes / 2 * heads * job.shape.context**2
    return sum(held * (count / chunks) * layer for count, layer in kinds), again
