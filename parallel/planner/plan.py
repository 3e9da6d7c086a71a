"""The plan of one layout: memory, traffic, time and cost as one value.

Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from configs.schema import ContextBy, DeviceName, EngineName, Run
from models.flops import paper_training_flops, step_flops
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.parameter_count import rank_parameters
from parallel.planner.communication.formulas import step_traffic
from parallel.planner.communication.traffic import CollectiveKind, Group, Traffic
from parallel.planner.cost import Cost, Energy, training_cost
from parallel.planner.goodput import Goodput, goodput
from parallel.planner.inputs.calibration import Calibrated, calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.inputs.cpu import NAME as CPU
from parallel.planner.inputs.cpu import cpu_machine
from parallel.planner.inputs.job import OURS, Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.inputs.own import constants_for
from parallel.planner.inputs.probes import Probe, extrapolated, kept, may_be_measured
from parallel.planner.inputs.uncertainty import Spread, Traits, spread
from parallel.planner.memory.stages import MASTER, MOMENTS, Memory, stage_memories
from parallel.planner.timing.simulate import Played
from parallel.planner.timing.step import Step, StepTime

FILED = 200_000  # passes in a timeline file: about 30 MB
DRAWN = 3  # micro-batches of the timeline, in multiples of the stages
REDUCED = (Group.data, Group.data_context, Group.expert_data)
"""Groups of ranks that hold the same parameters."""
OF_EXPERTS = (
    Group.tensor_context,
    Group.expert,
    Group.expert_tensor,
    Group.tensor_expert,
    Group.expert_data,
)


@dataclass(frozen=True)
class Plan:
    """The cost of one layout on one machine; figures are computed lazily."""

    run: Run
    layout: Layout
    device: DeviceName
    machine: Machine
    calibration: Calibrated

    @classmethod
    def of(cls, run: Run, layout: Layout, device: DeviceName) -> Plan:
        """Raises InputError if the cluster's figures are unknown."""
        if device is DeviceName.cpu:
            return cls(run, layout, device, cpu_machine(layout.world_size), calibrated(OURS, CPU))
        machine = machine_of(run.cluster)
        return cls(run, layout, device, machine, constants_for(run, machine))

    @cached_property
    def shape(self) -> ModelShape:
        """The shape of the run's model."""
        return ModelShape.of(self.run.model)

    @cached_property
    def job(self) -> Job:
        """The run as the formulas of memory and time take it."""
        return Job.of(self.run, self.layout)

    @cached_property
    def step(self) -> Step:
        """The formulas of a step's time, with this machine and these constants."""
        return Step(self.job, self.machine, self.calibration.constants)

    @cached_property
    def memories(self) -> list[Memory]:
        """One rank of each stage; on a CPU with what the host keeps of a GPU's rank."""
        memories = stage_memories(self.job, self.calibration.overheads)
        if self.device is not DeviceName.cpu:
            return memories
        of_engine = 0.0
        if self.run.engine.name is EngineName.deepspeed:
            of_engine = self.calibration.overheads.deepspeed_gib * 2**30
        copied = MASTER + MOMENTS if self.run.train.async_save else 0
        return [
            replace(
                memory,
                framework=memory.framework + of_engine + copied * numbers / self.layout.data,
            )
            for memory, numbers in zip(memories, self.parameters, strict=True)
        ]

    @property
    def fullest(self) -> int:
        """The stage whose ranks need the most memory."""
        return max(range(len(self.memories)), key=lambda stage: self.memories[stage].total)

    @property
    def fits(self) -> bool:
        """Whether the fullest stage's ranks need no more memory than the device has."""
        return self.memories[self.fullest].total <= self.machine.memory_bytes

    @cached_property
    def time(self) -> StepTime:
        """A step's time, by simulating the schedule; on a CPU as smaller steps were measured."""
        time = self.step.time()
        return time.scaled(
            self._measured(self.job.global_batch) / time.seconds if self.probes else 1
        )

    @cached_property
    def probes(self) -> list[Probe]:
        """Smaller steps measured on this machine's CPU; empty if there are none."""
        if not may_be_measured(self.run, self.layout, self.device):
            return []
        return kept(self.run, self.layout)

    def _measured(self, samples: int) -> float:
        """Seconds of a step of so many samples, by the measured smaller ones."""
        micro_batches = self.layout.micro_batches(samples)
        return extrapolated(self.probes, self.shape.layers, micro_batches)

    @property
    def basis(self) -> str:
        """What the step's time rests on."""
        if self.device is not DeviceName.cpu:
            return self.calibration.basis
        if self.probes:
            return f"{len(self.probes)} smaller steps measured on this machine"
        return "constants of another machine, off by several times; phalanx train measures this one"

    @cached_property
    def spread(self) -> Spread | None:
        """How far the step's time may be from the planned one; None on a CPU, which is measured."""
        if self.device is DeviceName.cpu:
            return None
        traits = Traits.of(self.job, self.calibration.gpu)
        return spread(traits, own=self.calibration.errors)

    @cached_property
    def played(self) -> Played:
        """The beginning of the schedule (all of a short step), for the timeline."""
        shown = min(self.job.micro_batches, DRAWN * self.layout.pipeline)
        if self.layout.interleave > 1:
            shown -= shown % self.layout.pipeline
        return self.step.played(max(shown, 1))

    def played_for_a_file(self) -> tuple[Played, int]:
        """The schedule of a step, or of as many micro-batches as viewers handle; their count."""
        micro_batches = self.job.micro_batches
        each = 2 * self.layout.pipeline * self.layout.chunks_per_stage  # passes of one
        if micro_batches * each > FILED:
            rounds = max(FILED // (each * self.layout.pipeline), 1)
            micro_batches = min(micro_batches, rounds * self.layout.pipeline)
        return self.step.played(micro_batches), micro_batches

    @cached_property
    def traffic(self) -> list[list[Traffic]]:
        """The collectives of one rank of each stage in a step."""
        return [
            step_traffic(
                self.shape,
                self.layout,
                self.run.engine.name,
                stage=stage,
                precision=self.run.precision,
                micro_batches=self.job.micro_batches,
                device=self.device,
                clips=self.run.optimizer.clip > 0,
                optimizer=self.run.optimizer.name,
                cuda=self.run.cuda,
            )
            for stage in range(self.layout.pipeline)
        ]

    def link_of(self, group: Group) -> str:
        """The links of the group's traffic: the node's or the rack's own, or the network too."""
        if self.device is DeviceName.cpu:
            return "loopback"
        links, machine = self.step.links, self.machine
        whole = self.layout.world_size > machine.link_gpus
        crosses = {
            Group.tensor: not links.tensor_in_node,
            Group.data: links.data_crosses_nodes,
            Group.data_context: links.data_crosses_nodes,
            Group.context: links.context_crosses_nodes,
            Group.pipeline: links.stages_cross_nodes,
            **{each: links.experts_cross_nodes(each) for each in OF_EXPERTS},
        }
        near = "rack" if machine.link_gpus > machine.gpus_per_node else "node"
        return "network" if crosses.get(group, whole) else near

    def overlapped(self, group: Group, kind: CollectiveKind) -> bool:
        """Whether the group's traffic overlaps with compute, as far as there is any."""
        if self.device is DeviceName.cpu:
            return False
        if group in REDUCED:
            return self.job.overlap_data and kind is not CollectiveKind.all_to_all
        if group is Group.context:
            return self.layout.context_by is ContextBy.ring
        return group is Group.pipeline and self.layout.interleave > 1

    @cached_property
    def parameters(self) -> list[int]:
        """Elements on one rank of each stage, including padding and the tied copy."""
        return [
            rank_parameters(self.shape, self.layout, stage) for stage in range(self.layout.pipeline)
        ]

    @property
    def flops_per_step(self) -> int:
        """The model's FLOPs, without recomputation."""
        return step_flops(self.shape, self.job.global_batch)

    @property
    def tflops_per_gpu(self) -> float:
        """The model's TFLOP/s on each GPU, without recomputation."""
        return self.flops_per_step / self.time.seconds / self.layout.world_size / 1e12

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: the fraction of the GPU's peak in the run's precision."""
        return self.tflops_per_gpu * 1e12 / self.machine.peak(self.run.precision)

    @cached_property
    def cost(self) -> Cost:
        """The cost of the run; step time is nearly linear in the number of micro-batches."""
        sustained = self.run.cluster.sustained_tflops
        if sustained is not None:
            tokens = self.run.model.recipe.tokens
            rate = sustained * 1e12 * self.layout.world_size
            whole = training_cost(self.run, self.layout.world_size, lambda size: 0.0)
            return replace(whole, seconds=paper_training_flops(self.shape, tokens) / rate)
        full = self.job.global_batch
        if self.probes:
            return training_cost(self.run, self.layout.world_size, self._measured)
        part = min(full, 2 * self.layout.pipeline * self.layout.micro_batch * self.layout.data)
        more, less = self._estimate(full), self._estimate(part)
        slope = (more - less) / (full - part) if full > part else more / full
        return training_cost(
            self.run,
            self.layout.world_size,
            lambda size: self.time.seconds + (size - full) * slope,
        )

    @cached_property
    def goodput(self) -> Goodput | None:
        """The training with failures of nodes; None on this machine's CPU."""
        if self.device is DeviceName.cpu:
            return None
        cost, cluster = self.cost, self.run.cluster
        return goodput(
            parameters=self.shape.parameters,
            gpus=self.layout.world_size,
            gpus_per_node=self.machine.gpus_per_node,
            step=cost.seconds / cost.steps,
            waits=not self.run.train.async_save,
            node_failure_hours=cluster.node_failure_hours,
        )

    @property
    def expected_days(self) -> float:
        """Days of the training, with the failures that are to be expected."""
        fraction = self.goodput.fraction if self.goodput else 1.0
        return self.cost.days / fraction if fraction else math.inf

    @property
    def expected_dollars(self) -> float | None:
        """The price of all GPUs for as many days."""
        dollars = self.cost.dollars
        return dollars and dollars * self.expected_days / self.cost.days

    @property
    def energy(self) -> Energy | None:
        """Of the expected days; None if the cluster does not say what a node draws."""
        cluster = self.run.cluster
        if cluster.node_watts is None or self.device is DeviceName.cpu:
            return None
        return Energy(
            days=self.expected_days,
            nodes=self.layout.nodes(self.machine.gpus_per_node),
            node_watts=cluster.node_watts,
            grams_per_kwh=cluster.grams_co2_per_kwh,
        )

    def _estimate(self, samples: int) -> float:
        job = replace(self.job, global_batch=samples)
        step = Step(job, self.machine, self.calibration.constants)
        return step.time(played=False).seconds
