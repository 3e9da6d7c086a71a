"""What each engine can do with ZeRO and with pipelines."""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import EngineName, Precision
from parallel.rules.case import Case
from parallel.rules.fault import Change, Fault, Rule
from parallel.rules.nearest import more_nodes, to

MEGATRON = {"engine": EngineName.megatron}
DEEPSPEED = {"engine": EngineName.deepspeed}


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
    """ZeRO needs two data ranks or more, unless the optimizer is offloaded."""
    layout = case.layout
    if case.run.engine.offload_optimizer:  # the host is something to share with
        return
    if 1 <= layout.zero <= 3 and layout.data == 1:
        yield Fault(
            setting="layout.zero",
            why="it shards over the data ranks, and data=1 is only one",
            source="a setting without effect is an error",
            fixes=(
                to({"layout.zero": 0}),
                to({"layout.data": 2}),
                more_nodes(case),
            ),
        )


def megatron_shards_only_the_optimizer(case: Case) -> Iterator[Fault]:
    """Under engine=megatron ZeRO is 0 or 1."""
    if case.deepspeed or case.layout.zero not in (2, 3):
        return
    yield Fault(
        setting="layout.zero",
        why="engine=megatron shards the optimizer (zero=1) and no more; "
        "engine=deepspeed without a pipeline goes to zero=3",
        source="Megatron-core distributed optimizer",
        fixes=(
            to({"layout.zero": 1}),
            to({**DEEPSPEED, **_without_pipeline(case)}),
            to({"layout.zero": 0}),
        ),
    )


def deepspeed_pipeline_keeps_gradients_whole(case: Case) -> Iterator[Fault]:
    """Under a pipeline of engine=deepspeed ZeRO is 0 or 1."""
    layout = case.layout
    if not case.deepspeed or layout.pipeline <= 1 or layout.zero not in (2, 3):
        return
    yield Fault(
        setting="layout.zero",
        why=f"pipeline={layout.pipeline} of engine=deepspeed adds up gradients over micro-batches, "
        "which ZeRO 2 and 3 cut up; take zero=1 with the pipeline or pipeline=1",
        source="DeepSpeed runtime/pipe/engine.py",
        fixes=(to({"layout.zero": 1}), to(_without_pipeline(case)), to({"layout.zero": 0})),
    )


def deepspeed_has_no_interleaved_schedule(case: Case) -> Iterator[Fault]:
    """Under engine=deepspeed the stages do not interleave."""
    if case.deepspeed and case.interleaved:
        yield Fault(
            setting="layout.interleave",
            why="engine=deepspeed has no interleaved schedule; engine=megatron has",
            source="DeepSpeed runtime/pipe/schedule.py",
            fixes=(to({"layout.interleave": 1}), to(MEGATRON)),
        )


def deepspeed_cuts_evenly(case: Case) -> Iterator[Fault]:
    """Under engine=deepspeed the stages are equal: no `stage_layers`."""
    if case.deepspeed and case.layout.stage_layers is not None:
        yield Fault(
            setting="layout.stage_layers",
            why="engine=deepspeed cuts the layers into equal stages; engine=megatron as it is told",
            source="DeepSpeed runtime/pipe/module.py",
            fixes=(to({"layout.stage_layers": None}), to(MEGATRON)),
        )


def offload_needs_zero_of_deepspeed(case: Case) -> Iterator[Fault]:
    """Offloading the optimizer needs engine=deepspeed and ZeRO 1 or more."""
    if not case.run.engine.offload_optimizer:
        return
    keep = {"engine.offload_optimizer": False}
    if not case.deepspeed:
        yield Fault(
            setting="engine.offload_optimizer",
            why="engine=megatron keeps the optimizer on the GPU; engine=deepspeed with zero=1 to "
            "zero=3 can offload it",
            source="DeepSpeed runtime/zero/offload_config.py",
            fixes=(to({**DEEPSPEED, "layout.zero": max(case.layout.zero, 1)}), to(keep)),
        )
    elif case.layout.zero == 0:
        yield Fault(
            setting="engine.offload_optimizer",
            why="it is a part of ZeRO, and layout.zero=0 is without",
            source="DeepSpeed runtime/zero/offload_config.py",
            fixes=(to({"layout.zero": 1}), to(keep)),
        )


def deepspeed_halves_need_zero(case: Case) -> Iterator[Fault]:
    """DeepSpeed in half precision on several data ranks needs ZeRO, which sums in float32."""
    layout, precision = case.layout, case.run.precision
    if not case.deepspeed or precision is Precision.float32:
        return
    if layout.zero == 0 and layout.data > 1:
        yield Fault(
            setting="layout.zero",
            why=f"engine=deepspeed without ZeRO adds up {precision} gradients in {precision}, "
            "which loses small ones; with ZeRO, and on engine=megatron, in float32",
            source="DeepSpeed runtime/engine.py",
            fixes=(to({"layout.zero": 1}), to(MEGATRON), to({"layout.data": 1})),
        )


RULES: tuple[Rule, ...] = (
    zero_has_data_ranks,
    megatron_shards_only_the_optimizer,
    deepspeed_pipeline_keeps_gradients_whole,
    deepspeed_has_no_interleaved_schedule,
    deepspeed_cuts_evenly,
    offload_needs_zero_of_deepspeed,
    deepspeed_halves_need_zero,
)
