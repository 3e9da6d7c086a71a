"""The layouts that a search looks at. Imports no torch.

Sizes multiply to the ranks and divide the model; `parallel.rules` does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from itertools import product

from configs.schema import ContextBy, Recompute, Run, Schedule
from parallel.engines.registry import ENGINES, EngineKind
from parallel.layout import Layout

MICRO_BATCHES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 64)
LEAST_TOKENS = 4096  # of a sequence on a rank; shorter ones are split only where a run asks for it
FEWER_LAST = 3  # layers, the most that the last stage has less than an even share: for the logits
RECOMPUTES = (Recompute.none, Recompute.full)
"""Fused attention, which runs of ours have, keeps nothing that selective recomputation would not:
it is as large as none, and slower."""
WITHIN = ("micro_batch", "context_by", "recompute")
"""The fields in which a frame's layouts differ."""
_SHARED = tuple(field.name for field in fields(Layout) if field.name not in WITHIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Layouts that differ in what decides on activations alone: `layout` with each of the rest."""

    layout: Layout
    micro_batches: tuple[int, ...]
    ways: tuple[ContextBy | None, ...]

    @property
    def count(self) -> int:
        """The number of its layouts."""
        return len(self.micro_batches) * len(self.ways) * len(RECOMPUTES)

    def layouts(self) -> list[Layout]:
        """All of them."""
        shared = {name: getattr(self.layout, name) for name in _SHARED}
        return [
            Layout(**shared, micro_batch=micro_batch, context_by=way, recompute=recompute)
            for micro_batch, way, recompute in product(self.micro_batches, self.ways, RECOMPUTES)
        ]


def candidates(run: Run, ranks: int, link_gpus: int) -> Iterator[Layout]:
    """Every layout to try, under the run's engine."""
    for frame in frames(run, ranks, link_gpus):
        yield from frame.layouts()


def frames(run: Run, ranks: int, link_gpus: int) -> Iterator[Frame]:
    """The same, in frames."""
    model, kind = run.model, ENGINES[run.engine.name]
    for tensor in divisors(ranks):
        if model.heads % tensor or (tensor > link_gpus and tensor > 1):
            continue
        for context in divisors(ranks // tensor):
            if not _splits(run, context):
                continue
            for pipeline in divisors(ranks // tensor // context):
                if pipeline > model.layers:
                    break
                if pipeline > 1 and model.moe.experts and not kind.experts_with_pipeline:
                    continue
                data = ranks // tensor // pipeline // context
                sizes = tuple(b for b in MICRO_BATCHES if run.train.global_batch % (b * data) == 0)
                if not sizes:
                    continue
                ways = tuple(ContextBy) if context > 1 else (None,)
                for shape in product(
                    _foldings(model.layers, pipeline, kind),
                    _sequences(run, tensor),
                    _zeros(run, pipeline, data * context, kind),
                    _experts(run, tensor * context * data, link_gpus),
                ):
                    (stages, interleave, schedule), sequence, zero, (expert, shared) = shape
                    layout = Layout(
                        tensor=tensor,
                        context=context,
                        expert=expert,
                        expert_tensor=shared,
                        pipeline=pipeline,
                        data=data,
                        interleave=interleave,
                        stage_layers=stages,
                        schedule=schedule,
                        sequence_parallel=sequence,
                        zero=zero,
                    )
                    yield Frame(layout=layout, micro_batches=sizes, ways=ways)


def uneven(layers: int, stages: int) -> list[tuple[int, ...]]:
    """Layers of each stage where they are not all alike: fewer on the last, which has the logits.

    The others share the rest evenly, with fewer first on the first, which holds most activations.
    """
    found = []
    share = layers // stages
    for last in range(share, max(share - FEWER_LAST, 1) - 1, -1):
        each, more = divmod(layers - last, stages - 1)
        before = (*[each] * (stages - 1 - more), *[each + 1] * more)
        if each and len({*before, last}) > 1:
            found.append((*before, last))
    return found


def _splits(run: Run, context: int) -> bool:
    """Whether sequences are to be split so many ways."""
    length = run.model.context
    asked = context in (1, run.layout.context)
    if not asked and length // context < LEAST_TOKENS:
        return False
    return context == 1 or length % (2 * context) == 0


def _experts(run: Run, stage_ranks: int, link_gpus: int) -> list[tuple[int, int]]:
    """Ranks that a layer's experts can be dealt out to, each with whole experts, and ranks of a
    node that share each.
    """
    if not run.model.moe.experts:
        return [(1, 1)]
    inner = run.model.moe.feed_forward or run.model.feed_forward or 4 * run.model.hidden
    shared = [size for size in divisors(link_gpus) if inner % size == 0]
    dealt = divisors(run.model.moe.experts)
    return [each for each in product(dealt, shared) if stage_ranks % (each[0] * each[1]) == 0]


def _sequences(run: Run, tensor: int) -> tuple[bool, ...]:
    """Sequence parallel or not, which with experts each token's ranks must be."""
    if tensor == 1:
        return (False,)
    return (True,) if run.model.moe.experts else (False, True)


def _foldings(
    layers: int, pipeline: int, kind: EngineKind
) -> list[tuple[tuple[int, ...] | None, int, Schedule]]:
    """Uneven stages, the number of chunks per stage, and the schedule."""
    found: list[tuple[tuple[int, ...] | None, int, Schedule]] = []
    if layers % pipeline == 0:
        share = layers // pipeline
        chunks = divisors(share) if kind.interleaves and pipeline > 1 else (1,)
        found += [(None, each, Schedule.standard) for each in chunks]
        if kind.dualpipev and pipeline > 1 and share % 2 == 0:
            found.append((None, 1, Schedule.dualpipev))
    if kind.uneven_stages and pipeline > 1:
        found += [(stages, 1, Schedule.standard) for stages in uneven(layers, pipeline)]
    return found


def _zeros(run: Run, pipeline: int, copies: int, kind: EngineKind) -> tuple[int, ...]:
    if copies == 1 and not run.engine.offload_optimizer:
        return (0,)
    stages = kind.zero_with_pipeline if pipeline > 1 else kind.zero
    if run.engine.offload_optimizer:
        stages = tuple(zero for zero in stages if zero)
    if not run.model.moe.experts:
        return stages
    return tuple(zero for zero in stages if zero in kind.zero_with_experts)


@cache
def divisors(number: int) -> tuple[int, ...]:
    """Ascending."""
    return tuple(size for size in range(1, number + 1) if number % size == 0)
