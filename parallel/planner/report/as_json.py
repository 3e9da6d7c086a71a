"""A plan as the JSON object that `format=json` prints. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from parallel.layout import Layout
from parallel.planner.communication.traffic import Traffic
from parallel.planner.inputs.uncertainty import LEVEL
from parallel.planner.memory.stages import CATEGORIES, Memory
from parallel.planner.plan import Plan
from parallel.planner.search import Candidate, Found

if TYPE_CHECKING:
    from parallel.planner.trace.trace import RankTrace

GIB = 2**30


def answer(plan: Plan) -> dict[str, Any]:
    """Every figure of a plan; names end in the unit (_s, _gib) if there is one."""
    time, cost = plan.time, plan.cost
    fullest = plan.fullest
    return {
        "fits": plan.fits,
        "model": plan.run.model.name,
        "engine": str(plan.run.engine.name),
        "precision": str(plan.run.precision),
        "device": str(plan.device),
        "gpu": plan.machine.gpu,
        "layout": layout_fields(plan.layout),
        "layout_name": str(plan.layout),
        "world_size": plan.layout.world_size,
        "micro_batches": plan.job.micro_batches,
        "step_time_s": time.seconds,
        "step_time_interval_s": _interval(plan),
        "step_time_parts_s": {
            "pipeline": time.pipeline,
            "data_parallel_exposed": time.data,
            "optimizer": time.optimizer,
            "tensor_parallel_within_pipeline": time.tensor,
            "expert_parallel_within_pipeline": time.experts,
            "hop": time.hop,
        },
        "tokens_per_s": plan.job.global_batch * plan.shape.context / time.seconds,
        "tflops_per_gpu": plan.tflops_per_gpu,
        "mfu": plan.mfu,
        "bubble_fraction": time.bubble_fraction,
        "memory_gib": {
            "limit": plan.machine.memory_bytes / GIB,
            "peak": plan.memories[fullest].total / GIB,
            "fullest_stage": fullest,
            "stages": [memory_fields(memory) for memory in plan.memories],
        },
        "collectives": [
            {
                "stage": stage,
                **traffic_fields(each),
                "link": plan.link_of(each.group),
                "overlapped": plan.overlapped(each.group, each.kind),
            }
            for stage, traffic in enumerate(plan.traffic)
            for each in traffic
        ],
        "parameters": {
            "total": plan.shape.parameters,
            "active": plan.shape.active_parameters,
            "per_rank": plan.parameters,
        },
        "flops_per_step": plan.flops_per_step,
        "steps": cost.steps,
        "tokens": cost.tokens,
        "days": cost.days,
        "gpu_hours": cost.gpu_hours,
        "dollars": cost.dollars,
        "goodput": goodput_fields(plan),
        "energy": energy_fields(plan),
        "calibration": {
            "software": plan.calibration.software,
            "gpu": plan.calibration.gpu,
            "basis": plan.basis,
            "constants": asdict(plan.calibration.constants),
        },
    }


def goodput_fields(plan: Plan) -> dict[str, Any] | None:
    """What failures cost; None on this machine's CPU."""
    goodput = plan.goodput
    if goodput is None:
        return None
    return {
        "fraction": goodput.fraction,
        "hours_between_failures": goodput.failure / 3600,
        "steps_between_checkpoints": goodput.every,
        "seconds_between_checkpoints": goodput.interval,
        "stall_s": goodput.stall,
        "written_s": goodput.written,
        "restart_s": goodput.restart,
        "expected_days": plan.expected_days,
        "expected_dollars": plan.expected_dollars,
    }


def energy_fields(plan: Plan) -> dict[str, Any] | None:
    """Of the expected days; None if the cluster does not say what a node draws."""
    energy = plan.energy
    if energy is None:
        return None
    return {
        "mwh": energy.megawatt_hours,
        "tonnes_co2": energy.tonnes,
        "nodes": energy.nodes,
        "node_watts": energy.node_watts,
    }


def _interval(plan: Plan) -> dict[str, Any] | None:
    """Where the step's time lies nine times in ten."""
    if plan.spread is None:
        return None
    return {
        "low": plan.time.seconds / plan.spread.factor,
        "high": plan.time.seconds * plan.spread.factor,
        "level": LEVEL,
        "nearest_runs": plan.spread.nearest,
    }


def layout_fields(layout: Layout) -> dict[str, Any]:
    """The layout's fields, enums as text."""
    fields = asdict(layout)
    return {name: str(v) if name in ("schedule", "recompute") else v for name, v in fields.items()}


def memory_fields(memory: Memory) -> dict[str, float]:
    """GiB by category and in total."""
    by_category: Mapping[str, float] = asdict(memory)
    return {**{name: by_category[name] / GIB for name in CATEGORIES}, "total": memory.total / GIB}


def traffic_fields(traffic: Traffic) -> dict[str, Any]:
    """Group, kind, count and bytes of one line of traffic."""
    return {
        "group": str(traffic.group),
        "kind": str(traffic.kind),
        "count": traffic.count,
        "bytes": traffic.bytes,
    }


def search_answer(found: Found, top: int) -> dict[str, Any]:
    """The `top` fastest layouts, and the Pareto front of memory against time."""
    return {
        "tried": found.tried,
        "valid": found.valid,
        "ranked": len(found.ranked),
        "limit_gib": found.limit / GIB,
        "best": [candidate_fields(each) for each in found.ranked[:top]],
        "front": [candidate_fields(each) for each in found.front],
    }


def candidate_fields(candidate: Candidate) -> dict[str, Any]:
    """A layout with its step time and its fullest rank's memory."""
    return {
        "engine": str(candidate.engine.name),
        "offload_optimizer": candidate.engine.offload_optimizer,
        "layout": layout_fields(candidate.layout),
        "step_time_s": candidate.seconds,
        "memory_gib": candidate.memory / GIB,
    }


def trace_answer(trace: RankTrace) -> dict[str, Any]:
    """A traced rank's operations, peak memory and traffic."""
    return {
        "rank": trace.rank,
        "stage": trace.stage,
        "parameters": trace.parameters,
        "operations": trace.operations,
        "peak_gib": trace.peak_bytes / GIB,
        "at_peak_gib": {str(name): size / GIB for name, size in trace.at_peak.items()},
        "collectives": [traffic_fields(each) for each in trace.traffic],
    }
