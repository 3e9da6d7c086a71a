"""The time of one optimizer step. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, reduce

from configs.schema import OptimizerName
from parallel.parameter_count import Numbers, rank_numbers
from parallel.planner.inputs.calibration import Constants
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.timing.layers import Pass, Passes
from parallel.planner.timing.links import Links
from parallel.planner.timing.muon import muon_seconds
from parallel.planner.timing.simulate import PassTimes, Played, play, seconds_of

UPDATE_BYTES = 22  # per element that a rank updates: float32 gradient, weight and two moments
CAST_BYTES = 4  # per element that it holds: written in 16 bits, read again


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of a step and their breakdown."""

    pipeline: float  # from the first pass to the last
    data: float  # data-parallel collectives that are not overlapped
    optimizer: float
    bubble_fraction: float  # of the pipeline's time, idle on the average stage
    tensor: float  # tensor-parallel collectives, a part of the pipeline's time
    experts: float  # collectives that bring tokens to experts, a part of the pipeline's time
    hop: float  # one message between stages

    @property
    def seconds(self) -> float:
        """All parts together."""
        return self.pipeline + self.data + self.optimizer

    def scaled(self, by: float) -> StepTime:
        """All parts times `by`."""
        return replace(
            self,
            pipeline=self.pipeline * by,
            data=self.data * by,
            optimizer=self.optimizer * by,
            tensor=self.tensor * by,
            experts=self.experts * by,
            hop=self.hop * by,
        )


@dataclass(frozen=True)
class Step:
    """The formulas of the time of one step of a job on a machine."""

    job: Job
    machine: Machine
    constants: Constants

    @cached_property
    def passes(self) -> Passes:
        """Times of a micro-batch through the parts of the model."""
        return Passes(self.job, self.machine, self.constants)

    @cached_property
    def links(self) -> Links:
        """The machine's links under the job's layout."""
        return Links(self.machine, self.constants, self.job.layout)

    @cached_property
    def hop(self) -> float:
        """Seconds of a message between stages."""
        layout, job = self.job.layout, self.job
        if layout.pipeline == 1:
            return 0.0
        size = job.number_bytes * job.tokens * job.shape.hidden
        return self.links.hop(size / layout.tensor if job.shared_messages else size)

    @cached_property
    def waited(self) -> float:
        """The time a stage waits for each message, in every micro-batch."""
        constants = self.constants
        interleaved = self.job.layout.chunks_per_stage > 1
        several = constants.hop_interleaved
        if self.job.overlap_hops:
            several = constants.hop_overlapped
        return (several if interleaved else constants.hop) * self.hop

    def layer(self, *, experts: bool) -> Pass:
        """One micro-batch through a layer that has experts, or has none."""
        if experts not in self._layers:
            layer = self.passes.layers(1, experts=experts)
            sharded = self.job.layout.zero == 3
            self._layers[experts] = self._sharded(layer, experts=experts) if sharded else layer
        return self._layers[experts]

    @cached_property
    def _layers(self) -> dict[bool, Pass]:
        return {}

    def _all(self, kinds: Iterable[tuple[bool, int]]) -> Pass:
        """Through so many layers with experts, and without."""
        passes = (self.layer(experts=experts).times(count) for experts, count in kinds if count)
        return reduce(Pass.plus, passes, Pass(0.0, 0.0))

    def _sharded(self, layer: Pass, *, experts: bool) -> Pass:
        """A layer with ZeRO 3: weights are gathered twice and gradients scattered."""
        number = self.job.layer(experts=experts)
        weights = self.job.number_bytes * self.job.shape.layers_on_rank([number])
        layout = self.job.layout
        gather = self.links.data_all_gather(weights, one_card=self.job.one_card)
        gather += self.constants.gather_us * 1e-6 * (layout.copies.bit_length() - 1)
        return Pass(
            self._hidden(layer.forward, gather),
            self._hidden(layer.backward, 2 * gather),
            layer.tensor,
            layer.experts,
        )

    def _hidden(self, compute: float, gather: float) -> float:
        return max(compute, gather) + self.constants.overlap * min(compute, gather)

    @cached_property
    def stages(self) -> list[Pass]:
        """One micro-batch through all layers of each stage, including embedding and logits."""
        return [self._stage(stage) for stage in range(self.job.layout.pipeline)]

    def kinds(self, stage: int) -> list[tuple[bool, int]]:
        """The layers of a stage, as `Job.kinds_of`."""
        return self.job.kinds_of(stage)

    def _stage(self, stage: int) -> Pass:
        all_layers = self._all(self.kinds(stage))
        if stage == 0:
            all_layers = all_layers.plus(self.passes.embedding())
        if stage == self.job.layout.logits_stage:
            all_layers = all_layers.plus(self.passes.logits())
        return all_layers

    @cached_property
    def pass_times(self) -> PassTimes:
        """The input of the simulation: a stage's chunks are equal except for the model's ends,
        unless only some of its layers have experts.
        """
        both = [self._chunks(stage) for stage in range(self.job.layout.pipeline)]
        return PassTimes(
            forward=[ahead for ahead, _ in both],
            backward=[back for _, back in both],
            hop=max(0.0, self.hop - self.waited),
        )

    def _chunks(self, stage: int) -> tuple[list[float], list[float]]:
        """Of each chunk of a stage, forward and backward."""
        layout = self.job.layout
        chunks = layout.chunks_per_stage
        kinds = self.kinds(stage)
        share = self._all(kinds)
        ahead = [share.forward / chunks + self.waited] * chunks
        back = [share.backward / chunks + self.waited] * chunks
        if len(kinds) > 1 or (self.job.stage_layers and chunks > 1):
            parts = [self._all(each) for each in self.job.kinds_of_chunks(stage)]
            ahead = [part.forward + self.waited for part in parts]
            back = [part.backward + self.waited for part in parts]
        if layout.pipeline == 1:
            ahead, back = [share.forward], [share.backward]
        if stage == 0:
            ahead[0] += self.passes.embedding().forward
            back[0] += self.passes.embedding().backward
        if stage == layout.logits_stage:
            ahead[-1] += self.passes.logits().forward
            back[-1] += self.passes.logits().backward
        return ahead, back

    def played(self, micro_batches: int | None = None) -> Played:
        """The schedule, event by event."""
        return play(self.job.layout, self.pass_times, micro_batches or self.job.micro_batches)

    def pipeline(self) -> float:
        """Seconds from the first pass to the last, by simulating the schedule."""
        return seconds_of(self.job.layout, self.pass_times, self.job.micro_batches)

    def pipeline_estimate(self) -> float:
        """An estimate without simulation: the slowest stage throughout, the others once."""
        layout, times = self.job.layout, self.pass_times
        each = [sum(f) + sum(b) for f, b in zip(times.forward, times.backward, strict=True)]
        slowest = max(each)
        chunks = layout.chunks_per_stage
        fill = (sum(each) - slowest) / chunks + 2 * (layout.pipeline - 1) * times.hop
        return self.job.micro_batches * slowest + fill

    @cached_property
    def numbers(self) -> Numbers:
        """Elements on the rank that holds most."""
        job = self.job
        if job.stage_layers is None:
            stages = range(job.layout.pipeline)
            held = (rank_numbers(job.shape, job.layout, stage) for stage in stages)
            return max(held, key=lambda numbers: numbers.total)
        most = max(job.stage_layers) * job.shape.layers_on_rank([0])
        rows = job.shape.padded_vocab(job.layout.tensor)
        return Numbers((most + rows * job.shape.hidden) // job.layout.tensor)

    def data_parallel(self) -> float:
        """Seconds of reducing gradients and gathering weights that are not overlapped."""
        job, layout = self.job, self.job.layout
        if layout.zero == 3:
            return 0.0
        gradients = self.gathered(job.gradient_bytes)
        weights = self.gathered(job.number_bytes if layout.zero else job.gradient_bytes)
        if not job.overlap_data:
            return gradients + weights
        first = self._stage(0)
        return self._beside(gradients, first.backward) + self._beside(weights, first.forward)

    def _beside(self, collectives: float, each: float) -> float:
        """Seconds of gradients' or weights' collectives that passes of `each` second do not hide.

        Gradients are reduced during the last micro-batch's backward pass, and weights gathered in
        the first one's forward pass. Of several chunks the others' go on while the chunks after
        them do a whole round of micro-batches.
        """
        chunks = self.job.layout.interleave
        if chunks == 1:
            return max(0.0, collectives - each)
        round_of = min(self.job.layout.pipeline, self.job.micro_batches) * each / chunks
        last = (collectives - each) / chunks  # of the first chunk's, beside its own pass
        return max(0.0, last, collectives - (chunks - 1) * round_of)

    def gathered(self, each: int) -> float:
        """Seconds of gathering `each` byte of the numbers from those that hold the same."""
        sizes, links = self.numbers.times(each), self.links
        shared = links.data_all_gather(sizes.shared) if self.job.layout.copies > 1 else 0.0
        return shared + (links.expert_data_all_gather(sizes.experts) if sizes.experts else 0.0)

    def optimizer(self) -> float:
        """Seconds of the update, by the bytes it moves: each rank updates its share under ZeRO."""
        layout = self.job.layout
        numbers = self.numbers
        updated = numbers.shard(layout) if layout.zero else numbers.total
        held = numbers.shard(layout) if layout.zero == 3 else numbers.total
        kernels = self.passes.kernels
        moving = kernels.moving(UPDATE_BYTES * updated + CAST_BYTES * held)
        if self.job.optimizer is OptimizerName.muon:
            return moving + muon_seconds(self.job, kernels, self.links)
        return moving

    def seconds_estimate(self) -> float:
        """Step time without simulating the schedule, for searches."""
        return self.pipeline_estimate() + self.data_parallel() + self.optimizer()

    def time(self, *, played: bool = True) -> StepTime:
        """`played` False: uses the estimate."""
        layout, micro_batches = self.job.layout, self.job.micro_batches
        pipeline = self.pipeline() if played else self.pipeline_estimate()
        busy = micro_batches * sum(stage.forward + stage.backward for stage in self.stages)
        return StepTime(
            pipeline=pipeline,
            data=self.data_parallel(),
            optimizer=self.optimizer(),
            bubble_fraction=max(0.0, 1 - busy / (pipeline * layout.pipeline)),
            tensor=micro_batches * max(stage.tensor for stage in self.stages),
            experts=micro_batches * max(stage.experts for stage in self.stages),
            hop=self.hop,
        )
