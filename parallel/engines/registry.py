"""The available engines: their capabilities, how they are built, and where their formulas are.

To add an engine, add a record here and the modules that it names. Code is named, not imported, so
that rules and plans can query an engine's capabilities without loading it. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name
from typing import Any

from configs.schema import EngineName


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """One engine.

    Attributes:
        source: where its capabilities are documented.
        shards: what ZeRO shards at most, in words.
        zero: the supported ZeRO stages.
        zero_with_pipeline: the ZeRO stages supported with pipeline parallelism.
        interleaves: supports several chunks of layers per stage (interleaved 1F1B).
        uneven_stages: supports stages with unequal numbers of layers.
        dualpipev: supports the DualPipeV schedule.
        offloads_optimizer: supports keeping the optimizer in host memory.
        sums_halves_as_halves: without ZeRO it accumulates half-precision gradients in half
            precision.
        reduces_after_pipeline: with a pipeline, gradients are reduced after the last micro-batch
            instead of overlapping with the backward pass.
        cuts_messages: each tensor rank sends its share of a message between stages.
        masters_of_float32: with ZeRO it keeps master copies of float32 weights too.
        zero_with_experts: the ZeRO stages supported for models with experts.
        experts_with_pipeline: supports experts in a pipeline's layers.
        lacks: the features of the `cuda` settings that it does not have, and `fp8`.
        build: `(run, layout, device)`, a context manager of the rank's `Engine`.
        traffic: `(step, ledger)` adds a stage's collectives to those of its layers.
        moments: `(job, numbers, held)`, what it keeps when its memory may peak.
        tracing: `(shape, layout, precision)`, a context manager that it needs on fake tensors.
        config: `(run, shape, layout, device)`, its configuration file; None: it takes none.
    """

    name: EngineName
    source: str
    shards: str
    zero: tuple[int, ...]
    zero_with_pipeline: tuple[int, ...]
    interleaves: bool = False
    uneven_stages: bool = False
    dualpipev: bool = False
    offloads_optimizer: bool = False
    sums_halves_as_halves: bool = False
    reduces_after_pipeline: bool = False
    cuts_messages: bool = False
    masters_of_float32: bool = False
    zero_with_experts: tuple[int, ...]
    experts_with_pipeline: bool = False
    lacks: frozenset[str] = frozenset()
    build: str
    traffic: str
    moments: str
    tracing: str | None = None
    config: str | None = None

    def load(self, part: str) -> Callable[..., Any]:
        """Imports and returns the code of `build`, `traffic` and so on."""
        return _loaded(getattr(self, part))


@cache  # a search asks for the same thousands of times
def _loaded(name: str) -> Callable[..., Any]:
    loaded: Callable[..., Any] = resolve_name(name)
    return loaded


ENGINES: Mapping[EngineName, EngineKind] = {
    kind.name: kind
    for kind in (
        EngineKind(
            name=EngineName.megatron,
            source="Megatron-core 0.16 distributed optimizer, pipeline_parallel/schedules.py",
            shards="the optimizer (zero=1)",
            zero=(0, 1),
            zero_with_pipeline=(0, 1),
            zero_with_experts=(0, 1),
            experts_with_pipeline=True,
            interleaves=True,
            uneven_stages=True,
            build="parallel.engines.megatron.build:running",
            traffic="parallel.planner.communication.megatron:megatron_traffic",
            moments="parallel.planner.memory.megatron:moments",
        ),
        EngineKind(
            name=EngineName.deepspeed,
            source="DeepSpeed 0.19 runtime/engine.py, runtime/pipe, runtime/zero",
            shards="the parameters too (zero=3)",
            zero=(0, 1, 2, 3),
            zero_with_pipeline=(0, 1),
            zero_with_experts=(0, 1, 2),
            dualpipev=True,
            offloads_optimizer=True,
            sums_halves_as_halves=True,
            reduces_after_pipeline=True,
            cuts_messages=True,
            masters_of_float32=True,
            lacks=frozenset(
                (
                    *("gradient_accumulation_fusion", "average_in_collective"),
                    *("align_param_gather", "bucket_size", "bf16_gradients"),
                    *("tensor_overlap", "graphs", "fp8"),
                )
            ),
            build="parallel.engines.deepspeed.build:running",
            traffic="parallel.planner.communication.deepspeed:deepspeed_traffic",
            moments="parallel.planner.memory.deepspeed:moments",
            tracing="parallel.planner.trace.fake_deepspeed:shapes_known",
            config="parallel.engines.deepspeed.build:config_of",
        ),
    )
}


def able(ability: Callable[[EngineKind], bool]) -> EngineKind | None:
    """The first engine with a capability; None if no engine has it."""
    return next((kind for kind in ENGINES.values() if ability(kind)), None)
