"""The engines that there are: what each can do, how it is built, and where its formulas are.

A new engine is a record here and the modules that it names. Code is named, not imported: rules and
plans ask what an engine can do without loading it. Needs no torch.
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
        source: where its abilities were read.
        shards: what ZeRO shards at most, in words.
        zero: the stages of ZeRO that it has.
        zero_with_pipeline: those of them that go with pipeline parallelism.
        interleaves: a stage may hold several chunks of layers (interleaved 1F1B).
        uneven_stages: stages may hold unequal numbers of layers.
        dualpipev: it has the DualPipeV schedule.
        offloads_optimizer: its optimizer may live in host memory.
        sums_halves_as_halves: without ZeRO it adds up half-precision gradients in half precision.
        reduces_after_pipeline: with a pipeline, gradients are reduced after the last micro-batch
            and not beside the backward pass.
        cuts_messages: each tensor rank sends its share of a message between stages.
        masters_of_float32: under ZeRO it keeps master copies of float32 weights too.
        build: `(run, layout, device)`, a context manager of the rank's `Engine`.
        model: the module that makes the rank's network.
        traffic: `(step, ledger)` adds a stage's collectives to those of its layers.
        moments: `(job, numbers, held)`, what it keeps when its memory may peak.
        tracing: `(shape, layout, precision)`, a context manager that it needs on fake tensors.
        config: `(run, shape, layout, device)`, the file that it is given; None: it takes none.
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
    build: str
    model: str
    traffic: str
    moments: str
    tracing: str | None = None
    config: str | None = None

    def load(self, part: str) -> Callable[..., Any]:
        """The code of `build`, `traffic` and so on, imported now."""
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
            interleaves=True,
            uneven_stages=True,
            build="parallel.engines.megatron.build:running",
            model="parallel.engines.megatron.model",
            traffic="parallel.planner.communication.megatron:megatron_traffic",
            moments="parallel.planner.memory.megatron:moments",
        ),
        EngineKind(
            name=EngineName.deepspeed,
            source="DeepSpeed 0.19 runtime/engine.py, runtime/pipe, runtime/zero",
            shards="the parameters too (zero=3)",
            zero=(0, 1, 2, 3),
            zero_with_pipeline=(0, 1),
            dualpipev=True,
            offloads_optimizer=True,
            sums_halves_as_halves=True,
            reduces_after_pipeline=True,
            cuts_messages=True,
            masters_of_float32=True,
            build="parallel.engines.deepspeed.build:running",
            model="parallel.engines.deepspeed.model",
            traffic="parallel.planner.communication.deepspeed:deepspeed_traffic",
            moments="parallel.planner.memory.deepspeed:moments",
            tracing="parallel.planner.trace.fake_deepspeed:shapes_known",
            config="parallel.engines.deepspeed.build:config_of",
        ),
    )
}


def able(ability: Callable[[EngineKind], bool]) -> EngineKind | None:
    """The first engine that can do something; None where none can."""
    return next((kind for kind in ENGINES.values() if ability(kind)), None)
