"""How ranks are arranged: the `Layout` value and the arithmetic that follows from it.

Integers only; imports no torch. Here a process group is a list of ranks, later a communicator.

Rank order is that of `AXES`, Megatron's default (tensor fastest, then context, data and pipeline),
which DeepSpeed's pipe-data-model topology also gives, if context ranks are data ranks to it:
rank = tensor + T * (context + C * (data + D * pipeline)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import product
from typing import NamedTuple

from configs.schema import ContextBy, ExpertBy, LayoutConfig, Recompute, Schedule
from models.layer_table import Cut


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A rank's index on each axis: one field per axis, in rank order, fastest first."""

    tensor: int = 0
    context: int = 0
    data: int = 0
    pipeline: int = 0


AXES: tuple[str, ...] = tuple(field.name for field in fields(Coordinates))
"""The axes in rank order. A new axis is a field of `Coordinates`, `Layout` and `LayoutConfig`."""


class ExpertCoordinates(NamedTuple):
    """A rank's index on each axis of the experts, fastest first."""

    expert_tensor: int
    expert: int
    expert_data: int
    pipeline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a model is distributed over ranks: the size of each axis, and how work is split."""

    tensor: int = 1
    context: int = 1
    context_by: ContextBy | None = None  # None: not chosen yet, or nothing to choose
    expert: int = 1  # of the ranks that read other tokens; see `expert_groups`
    expert_tensor: int = 1
    expert_by: ExpertBy | None = None  # None: not chosen yet, or nothing to choose
    pipeline: int = 1
    data: int = 1
    interleave: int = 1
    stage_layers: tuple[int, ...] | None = None  # None: equal stages
    schedule: Schedule = Schedule.standard
    micro_batch: int = 1
    sequence_parallel: bool = False
    zero: int = 0
    recompute: Recompute = Recompute.none

    @classmethod
    def resolve(cls, config: LayoutConfig, ranks: int | None) -> Layout:
        """Derives `data` from the number of available ranks; None: from the minimum.

        The result may break rules; `parallel.rules` reports which.
        """
        data = config.data
        if data is None:
            model_ranks = math.prod(getattr(config, axis) for axis in AXES if axis != "data")
            data = max(1, ranks // model_ranks) if ranks and model_ranks > 0 else 1
        return cls(
            tensor=config.tensor,
            context=config.context,
            context_by=config.context_by,
            expert=config.expert,
            expert_tensor=config.expert_tensor,
            expert_by=config.expert_by,
            pipeline=config.pipeline,
            data=data,
            interleave=config.interleave,
            stage_layers=None if config.stage_layers is None else tuple(config.stage_layers),
            schedule=config.schedule,
            micro_batch=config.micro_batch,
            sequence_parallel=config.sequence_parallel,
            zero=config.zero,
            recompute=config.recompute,
        )

    def as_config(self) -> LayoutConfig:
        """The settings that produce this layout."""
        return LayoutConfig(
            tensor=self.tensor,
            context=self.context,
            context_by=self.context_by,
            expert=self.expert,
            expert_tensor=self.expert_tensor,
            expert_by=self.expert_by,
            pipeline=self.pipeline,
            data=self.data,
            interleave=self.interleave,
            stage_layers=None if self.stage_layers is None else list(self.stage_layers),
            schedule=self.schedule,
            micro_batch=self.micro_batch,
            sequence_parallel=self.sequence_parallel,
            zero=self.zero,
            recompute=self.recompute,
        )

    def __str__(self) -> str:
        """tensor x pipeline x interleave x data, without trailing ones after pipeline: 2x2x1x2.

        Then the ranks of a context group, of an expert group, and those that share an expert, if
        there are several: 2x2-cp4-ep2.
        """
        sizes = [self.tensor, self.pipeline, self.interleave, self.data]
        while len(sizes) > 2 and sizes[-1] == 1:
            sizes.pop()
        folded = {"cp": self.context, "ep": self.expert, "etp": self.expert_tensor}
        marks = [f"{mark}{size}" for mark, size in folded.items() if size > 1]
        return "-".join(["x".join(map(str, sizes)), *marks])

    def size(self, axis: str) -> int:
        """Ranks along one of `AXES`."""
        return int(getattr(self, axis))

    @property
    def world_size(self) -> int:
        """The total number of ranks."""
        return math.prod(map(self.size, AXES))

    @property
    def model_ranks(self) -> int:
        """Ranks that process the same samples, all that a layout needs at least."""
        return math.prod(self.size(axis) for axis in AXES if axis != "data")

    @property
    def copies(self) -> int:
        """Ranks that hold the same parameters: their gradients are averaged, and ZeRO shards them.

        Those of a context group do as well as those of different data ranks.
        """
        return self.context * self.data

    @property
    def cut(self) -> Cut:
        """Over how many ranks a layer's parameters are cut."""
        return Cut(self.tensor, self.expert, self.expert_tensor)

    @property
    def stage_ranks(self) -> int:
        """Ranks of a stage."""
        return math.prod(self.size(axis) for axis in AXES if axis != "pipeline")

    @property
    def expert_copies(self) -> int:
        """Ranks that hold the same experts: their gradients are averaged, and ZeRO shards them."""
        return self.stage_ranks // (self.expert * self.expert_tensor)

    def nodes(self, ranks_per_node: int | None) -> int:
        """The number of nodes that the ranks need; None: all are on one."""
        return 1 if not ranks_per_node else -(-self.world_size // ranks_per_node)

    @property
    def dualpipev(self) -> bool:
        """Whether each stage holds two chunks, one from either half of the model."""
        return self.schedule is Schedule.dualpipev

    @property
    def chunks_per_stage(self) -> int:
        """Two with DualPipeV, else `interleave`."""
        return 2 if self.dualpipev else self.interleave

    @property
    def chunks(self) -> int:
        """Pieces that the layers are cut into, `chunks_per_stage` of them for each stage."""
        return self.pipeline * self.chunks_per_stage

    @property
    def logits_stage(self) -> int:
        """The stage of the last layers, the logits and the loss; the first layers are on stage 0.

        DualPipeV folds the model in two, so that both ends are on stage 0.
        """
        return 0 if self.dualpipev else self.pipeline - 1

    def coordinates(self, rank: int) -> Coordinates:
        """Raises ValueError for a rank that is not in the world."""
        if not 0 <= rank < self.world_size:
            raise ValueError(f"rank {rank} is not in a world of {self.world_size}")
        at = {}
        for axis in AXES:
            rank, at[axis] = divmod(rank, self.size(axis))
        return Coordinates(**at)

    def rank(self, at: Coordinates) -> int:
        """The inverse of `coordinates`."""
        return self._rank({axis: getattr(at, axis) for axis in AXES})

    def _rank(self, at: Mapping[str, int]) -> int:
        rank = 0
        for axis in reversed(AXES):
            rank = rank * self.size(axis) + at[axis]
        return rank

    def ranks(self, at: Mapping[str, Iterable[int]]) -> list[int]:
        """The ranks whose coordinates are in `at`; axes not in `at` are unconstrained.

        In rank order if the coordinates of each axis are.
        """
        slowest_first = AXES[::-1]
        places = [at.get(axis, range(self.size(axis))) for axis in slowest_first]
        return [self._rank(dict(zip(slowest_first, at, strict=True))) for at in product(*places)]

    def groups(self, axis: str) -> list[list[int]]:
        """The groups of ranks that differ only on `axis`, ordered by their first ranks."""
        firsts = self.ranks({axis: [0]})
        others = [self.coordinates(first) for first in firsts]
        fixed = [other for other in AXES if other != axis]
        return [self.ranks({name: [getattr(at, name)] for name in fixed}) for at in others]

    def copy_groups(self) -> list[list[int]]:
        """The groups of ranks that hold the same parameters, which are `copies`."""
        found = []
        for first in self.ranks({"context": [0], "data": [0]}):
            at = self.coordinates(first)
            found.append(self.ranks({"tensor": [at.tensor], "pipeline": [at.pipeline]}))
        return found

    def expert_coordinates(self, rank: int) -> ExpertCoordinates:
        """Where a rank is among the experts of its stage, whose ranks are numbered through.

        The expert axes divide the ranks of a stage anew: neighbours share an expert, then come the
        ranks that the experts are dealt out to, then the copies (Megatron-core's folding).
        """
        pipeline, within = divmod(rank, self.stage_ranks)
        within, expert_tensor = divmod(within, self.expert_tensor)
        expert_data, expert = divmod(within, self.expert)
        return ExpertCoordinates(expert_tensor, expert, expert_data, pipeline)

    @property
    def expert_sizes(self) -> tuple[int, int, int]:
        """Ranks along each axis of `ExpertCoordinates` within a stage."""
        return self.expert_tensor, self.expert, self.expert_copies

    def expert_group(self, rank: int, *axes: str) -> list[int]:
        """The ranks that differ from `rank` on the given axes of `ExpertCoordinates` alone."""
        here = self.expert_coordinates(rank)
        fixed = [axis for axis in ExpertCoordinates._fields if axis not in axes]
        return [
            other
            for other in range(self.world_size)
            if all(
                getattr(self.expert_coordinates(other), axis) == getattr(here, axis)
                for axis in fixed
            )
        ]

    def experts_of(self, rank: int, experts: int) -> range:
        """Those of a layer's experts (from 0) that a rank holds, or holds a part of."""
        each = experts // self.expert
        first = self.expert_coordinates(rank).expert * each
        return range(first, first + each)

    def expert_groups(self, *axes: str) -> list[list[int]]:
        """The groups of ranks that differ on the given axes of `ExpertCoordinates` alone."""
        found: dict[tuple[int, ...], list[int]] = {}
        for rank in range(self.world_size):
            at = self.expert_coordinates(rank)._asdict()
            key = tuple(value for axis, value in at.items() if axis not in axes)
            found.setdefault(key, []).append(rank)
        return [*found.values()]

    def embedding_groups(self) -> list[list[int]]:
        """The ranks that hold the tied embedding, on the first and the logits stage."""
        return [sorted({group[0], group[self.logits_stage]}) for group in self.groups("pipeline")]

    def layers_of(self, stage: int, chunk: int, layers: int) -> range:
        """The layers (from 0) of one chunk of one stage.

        Chunk c of stage p is piece c * pipeline + p of `chunks` equal pieces, which is Megatron's
        interleaved order; in DualPipeV the second chunks come in the opposite order. With
        `stage_layers` a stage is one chunk, of as many layers as that says.
        """
        if self.stage_layers is not None:
            first = sum(self.stage_layers[:stage])
            return range(first, first + self.stage_layers[stage])
        per_chunk = layers // self.chunks
        if self.dualpipev and chunk == 1:
            stage = self.pipeline - 1 - stage
        first = (chunk * self.pipeline + stage) * per_chunk
        return range(first, first + per_chunk)

    def layers_on(self, stage: int, layers: int) -> list[range]:
        """The layers (from 0) of each chunk of a stage."""
        return [self.layers_of(stage, chunk, layers) for chunk in range(self.chunks_per_stage)]

    def micro_batches(self, global_batch: int) -> int:
        """Micro-batches per data rank in a step of `global_batch` samples."""
        return global_batch // (self.micro_batch * self.data)

    def samples_of(self, data_rank: int, global_batch: int) -> Iterator[range]:
        """For each micro-batch of one data rank, its samples' indices in the global batch.

        Micro-batch m is the m-th block of data x micro_batch samples; each rank has a slice.
        """
        for number in range(self.micro_batches(global_batch)):
            first = (number * self.data + data_rank) * self.micro_batch
            yield range(first, first + self.micro_batch)
