"""What each engine supports of ZeRO, of pipelines and of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from configs.schema import OptimizerName, Precision, Schedule
from parallel.engines.registry import EngineKind, able
from parallel.rules.case import Case
from parallel.rules.fault import Change, Fault, Rule
from parallel.rules.nearest import more_nodes, to


def _without_pipeline(case: Case) -> Change:
    alone: dict[str, object] = {}
    if case.layout.pipeline > 1:
        alone["layout.pipeline"] = 1
    if case.layout.interleave > 1:
        alone["layout.interleave"] = 1
    if case.layout.stage_layers is not None:
        alone["layout.stage_layers"] = None
    return alone


def zero_has_data_ranks(case: Case) -> Iterator[Fault]:
    """ZeRO needs two data or context ranks or more, unless the optimizer is offloaded."""
    layout = case.layout
    if case.run.engine.offload_optimizer:  # the host shares the work
        return
    if 1 <= layout.zero <= 3 and layout.copies == 1:
        yield Fault(
            setting="layout.zero",
            why="it shards over data and context ranks, and data=1, context=1 is only one",
            source="a setting without effect is an error",
            fixes=(
                to({"layout.zero": 0}),
                to({"layout.data": 2}),
                more_nodes(case),
            ),
        )


def the_engine_has_this_zero(case: Case) -> Iterator[Fault]:
    """The engine supports the stage of `layout.zero`."""
    kind, zero = case.engine, case.layout.zero
    if zero in kind.zero or not 0 <= zero <= 3:
        return
    other, most = able(lambda each: zero in each.zero), max(kind.zero)
    yield Fault(
        setting="layout.zero",
        why=f"engine={kind.name} shards {kind.shards} and no more"
        + (f"; engine={other.name} without a pipeline goes to zero={zero}" if other else ""),
        source=kind.source,
        fixes=(
            to({"layout.zero": most}),
            *([to({"engine": other.name, **_without_pipeline(case)})] if other else []),
            to({"layout.zero": 0}),
        ),
    )


def zero_goes_with_the_pipeline(case: Case) -> Iterator[Fault]:
    """With a pipeline gradients accumulate over micro-batches, which ZeRO 2 and 3 shard."""
    layout, kind = case.layout, case.engine
    allowed = kind.zero_with_pipeline
    if layout.pipeline <= 1 or layout.zero in allowed or layout.zero not in kind.zero:
        return
    yield Fault(
        setting="layout.zero",
        why=f"pipeline={layout.pipeline} of engine={kind.name} adds up gradients over "
        "micro-batches, which ZeRO 2 and 3 cut up; take "
        f"zero={max(allowed)} with the pipeline or pipeline=1",
        source=kind.source,
        fixes=(
            to({"layout.zero": max(allowed)}),
            to(_without_pipeline(case)),
            to({"layout.zero": 0}),
        ),
    )


def the_engine_interleaves(case: Case) -> Iterator[Fault]:
    """Several chunks on a stage need an interleaved schedule."""
    if case.interleaved and not case.engine.interleaves:
        yield _lacks(
            case,
            "layout.interleave",
            "has no interleaved schedule",
            lambda kind: kind.interleaves,
            {"layout.interleave": 1},
        )


def the_engine_cuts_as_told(case: Case) -> Iterator[Fault]:
    """Stages of unequal numbers of layers need an engine that supports them."""
    if case.layout.stage_layers is not None and not case.engine.uneven_stages:
        yield _lacks(
            case,
            "layout.stage_layers",
            "cuts the layers into equal stages",
            lambda kind: kind.uneven_stages,
            {"layout.stage_layers": None},
        )


def the_engine_offloads(case: Case) -> Iterator[Fault]:
    """Offloading the optimizer is part of ZeRO, in engines that support it."""
    if not case.run.engine.offload_optimizer:
        return
    keep = {"engine.offload_optimizer": False}
    kind = case.engine
    if not kind.offloads_optimizer:
        other = able(lambda each: each.offloads_optimizer)
        change = {"engine": other.name, "layout.zero": max(case.layout.zero, 1)} if other else {}
        yield Fault(
            setting="engine.offload_optimizer",
            why=f"engine={kind.name} keeps the optimizer on the GPU"
            + (f"; engine={other.name} with zero=1 to zero=3 can offload it" if other else ""),
            source=kind.source,
            fixes=(*([to(change)] if other else []), to(keep)),
        )
    elif case.layout.zero == 0:
        yield Fault(
            setting="engine.offload_optimizer",
            why="it is a part of ZeRO, and layout.zero=0 is without",
            source=kind.source,
            fixes=(to({"layout.zero": 1}), to(keep)),
        )


def muon_stays_on_the_device(case: Case) -> Iterator[Fault]:
    """Muon's matmuls run where its matrices are, and an offloaded optimizer is in host memory."""
    if case.run.engine.offload_optimizer and case.run.optimizer.name is OptimizerName.muon:
        yield Fault(
            setting="optimizer.name",
            why="its matrices are multiplied on the GPU, and engine.offload_optimizer=true keeps "
            "them in host memory",
            source="parallel/engines/muon.py",
            fixes=(
                to({"engine.offload_optimizer": False}),
                to({"optimizer.name": OptimizerName.adam}),
            ),
        )


def halves_are_added_up_in_float32(case: Case) -> Iterator[Fault]:
    """Sums of half-precision gradients over ranks must not lose small ones."""
    layout, precision, kind = case.layout, case.run.precision, case.engine
    if not kind.sums_halves_as_halves or precision is Precision.float32:
        return
    if layout.zero == 0 and layout.copies > 1:
        other = able(lambda each: not each.sums_halves_as_halves)
        yield Fault(
            setting="layout.zero",
            why=f"engine={kind.name} without ZeRO adds up {precision} gradients in {precision}, "
            "which loses small ones; with ZeRO"
            + (f", and on engine={other.name}," if other else "")
            + " in float32",
            source=kind.source,
            fixes=(
                to({"layout.zero": 1}),
                *([to({"engine": other.name})] if other else []),
                to({"layout.data": 1, "layout.context": 1, "layout.context_by": None}),
            ),
        )


def documents_reach_every_stage(case: Case) -> Iterator[Fault]:
    """Where documents begin is told to a stage before each pass; positions restart only there."""
    train = case.run.train
    if train.document_mask and case.layout.dualpipev:
        yield Fault(
            setting="train.document_mask",
            why="DualPipeV's stages take micro-batches from both ends, and are not told where "
            "their documents begin",
            source="DeepSpeed runtime/pipe/dualpipev.py",
            fixes=(
                to({"layout.schedule": Schedule.standard}),
                to({"train.document_mask": False, "train.restart_positions": False}),
            ),
        )
    if train.restart_positions and not train.document_mask:
        yield Fault(
            setting="train.restart_positions",
            why="positions restart where train.document_mask=true keeps documents apart",
            source="two tokens of one position would see each other",
            fixes=(to({"train.document_mask": True}), to({"train.restart_positions": False})),
        )


def _lacks(
    case: Case,
    setting: str,
    what: str,
    ability: Callable[[EngineKind], bool],
    without: Change,
) -> Fault:
    """A fault for a capability that this engine lacks, naming another engine that has it."""
    other = able(ability)
    return Fault(
        setting=setting,
        why=f"engine={case.engine.name} {what}" + (f"; engine={other.name} can" if other else ""),
        source=case.engine.source,
        fixes=(to(without), *([to({"engine": other.name})] if other else [])),
    )


def the_engine_shards_experts(case: Case) -> Iterator[Fault]:
    """Experts are sharded over other ranks than the rest, at fewer ZeRO stages."""
    kind, zero = case.engine, case.layout.zero
    if case.shape.moe.experts < 1 or zero in kind.zero_with_experts or zero not in kind.zero:
        return
    yield Fault(
        setting="layout.zero",
        why=f"engine={kind.name} shards experts by zero={max(kind.zero_with_experts)} at most",
        source=kind.source,
        fixes=(to({"layout.zero": max(kind.zero_with_experts)}), to({"layout.zero": 0})),
    )


def the_engine_pipelines_experts(case: Case) -> Iterator[Fault]:
    """A pipeline of layers with experts."""
    kind = case.engine
    if case.shape.moe.experts >= 1 and case.layout.pipeline > 1 and not kind.experts_with_pipeline:
        yield _lacks(
            case,
            "layout.pipeline",
            "has no pipeline of layers with experts",
            lambda kind: kind.experts_with_pipeline,
            {"layout.pipeline": 1},
        )


RULES: tuple[Rule, ...] = (
    zero_has_data_ranks,
    the_engine_has_this_zero,
    zero_goes_with_the_pipeline,
    the_engine_interleaves,
    the_engine_cuts_as_told,
    the_engine_offloads,
    muon_stays_on_the_device,
    halves_are_added_up_in_float32,
    documents_reach_every_stage,
    the_engine_shards_experts,
    the_engine_pipelines_experts,
)
