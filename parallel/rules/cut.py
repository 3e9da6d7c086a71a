"""How the model is split: heads and widths over tensor ranks, layers over stages and chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator

from configs.schema import ContextBy, Schedule
from parallel.rules.case import Case
from parallel.rules.fault import Fault, Rule
from parallel.rules.nearest import above, around, below, multiples_around, to


def splits(total: int, parts: int) -> bool:
    """Whether `total` splits evenly. True for a size below 1, which another rule reports."""
    return total < 1 or parts < 1 or total % parts == 0


def heads_divide_hidden(case: Case) -> Iterator[Fault]:
    """The heads divide the hidden size."""
    shape = case.shape
    if case.run.model.head_width is None and not splits(shape.hidden, shape.heads):
        yield Fault(
            setting="model.heads",
            why=f"hidden {shape.hidden} does not split into {shape.heads} heads",
            source="Megatron-LM arguments.py; Megatron-core floors the head width in silence",
            fixes=(
                *around("model.heads", shape.heads, shape.hidden),
                *multiples_around("model.hidden", shape.hidden, shape.heads),
            ),
        )


def tensor_splits_every_weight(case: Case) -> Iterator[Fault]:
    """Tensor ranks divide heads, query groups, hidden and feed-forward size."""
    shape, tensor = case.shape, case.layout.tensor
    parts = {
        f"{shape.heads} heads": shape.heads,
        f"{shape.hidden} hidden channels": shape.hidden,
        f"{shape.feed_forward} feed-forward channels": shape.feed_forward,
    }
    if shape.query_groups != shape.heads:
        parts[f"{shape.query_groups} query groups"] = shape.query_groups
    uneven = [name for name, size in parts.items() if not splits(size, tensor)]
    if uneven:
        yield Fault(
            setting="layout.tensor",
            why=f"{' and '.join(uneven)} do not split {tensor} ways",
            source="Megatron-core transformer_config.py and tensor_parallel/layers.py",
            fixes=around("layout.tensor", tensor, shape.query_groups),
        )


def layers_fill_every_chunk(case: Case) -> Iterator[Fault]:
    """The chunks of all stages divide the layers, unless `stage_layers` is given."""
    layers, layout = case.run.model.layers, case.layout
    if layout.stage_layers is not None:
        return
    # An interleave below 1 is already reported; the stages are checked anyway.
    chunks = layout.pipeline * max(layout.chunks_per_stage, 1)
    if splits(layers, chunks):
        return
    even_stages = splits(layers, layout.pipeline) and not layout.dualpipev
    setting = "layout.interleave" if even_stages else "layout.pipeline"
    size = layout.interleave if even_stages else layout.pipeline
    stages = f"pipeline {layout.pipeline}"
    if layout.dualpipev:
        stages += f" x 2 half stages of DualPipeV = {chunks} chunks"
    elif layout.interleave > 1:
        stages += f" x interleave {layout.interleave} = {chunks} chunks"
    yield Fault(
        setting=setting,
        why=f"{layers} layers do not split over {stages}",
        source="Megatron-core transformer_block.py; DeepSpeed leaves stages empty in silence",
        fixes=(
            *around(setting, size, layers),
            *multiples_around("model.layers", layers, chunks),
            to({"layout.schedule": Schedule.standard}) if layout.dualpipev else (),
        ),
    )


def stage_layers_are_the_model(case: Case) -> Iterator[Fault]:
    """`stage_layers` has an entry of 1 or more for each stage; they add up to the layers."""
    layers, layout, given = case.run.model.layers, case.layout, case.layout.stage_layers
    if given is None or layout.pipeline < 1:
        return
    if len(given) != layout.pipeline:
        why = f"it names {len(given)} stages of pipeline={layout.pipeline}"
    elif min(given) < 1:
        why = "each stage needs a layer"
    elif sum(given) != layers:
        why = f"the layers of the stages add up to {sum(given)}, and model.layers={layers}"
    else:
        return
    yield Fault(
        setting="layout.stage_layers",
        why=why,
        source="Megatron-core pipeline_parallel_layer_layout.py",
        fixes=(
            to({"layout.stage_layers": _filled(given, layout.pipeline, layers)}),
            to({"layout.stage_layers": None}),
        ),
    )


def _filled(given: tuple[int, ...], stages: int, layers: int) -> list[int]:
    """The given stages, as far as possible, with `layers` in total."""
    near = [min(max(1, size), layers) for size in given[:stages]] + [1] * (stages - len(given))
    while sum(near) > max(layers, stages):
        near[near.index(max(near))] -= 1
    while sum(near) < layers:
        near[near.index(min(near))] += 1
    return near


def stages_of_several_chunks_are_even(case: Case) -> Iterator[Fault]:
    """Interleaved stages take no `stage_layers`."""
    if case.layout.stage_layers is not None and case.layout.interleave > 1:
        yield Fault(
            setting="layout.stage_layers",
            why="interleaved stages hold several chunks, which are all of one size",
            source="parallel/layout.py",
            fixes=(to({"layout.stage_layers": None}), to({"layout.interleave": 1})),
        )


def interleave_has_stages(case: Case) -> Iterator[Fault]:
    """Interleaving needs two stages or more."""
    layout = case.layout
    if layout.interleave > 1 and layout.pipeline == 1:
        yield Fault(
            setting="layout.interleave",
            why="without a pipeline there is nothing to interleave",
            source="Megatron-core parallel_state.py",
            fixes=(
                to({"layout.interleave": 1}),
                above("layout.pipeline", 1, case.run.model.layers),
            ),
        )


def sequence_parallel_has_tensor_ranks(case: Case) -> Iterator[Fault]:
    """Sequence parallel needs two tensor ranks or more."""
    layout = case.layout
    if layout.sequence_parallel and layout.tensor == 1:
        yield Fault(
            setting="layout.sequence_parallel",
            why="it splits the sequence over the tensor ranks, and tensor=1 is only one",
            source="Megatron-core model_parallel_config.py",
            fixes=(
                to({"layout.sequence_parallel": False}),
                above("layout.tensor", 1, case.shape.heads),
            ),
        )


def sequence_parallel_splits_context(case: Case) -> Iterator[Fault]:
    """Under sequence parallel the tensor ranks divide the tokens of a context rank."""
    context, tensor, ranks = case.run.model.context, case.layout.tensor, case.layout.context
    tokens = context // ranks if ranks > 1 else context
    if case.layout.sequence_parallel and not splits(tokens, tensor):
        yield Fault(
            setting="model.context",
            why=f"{tokens} tokens do not split over tensor {tensor}, as sequence_parallel does",
            source="Megatron-core tensor_parallel/mappings.py",
            fixes=(
                *multiples_around("model.context", context, math.lcm(tensor * ranks, 2 * ranks)),
                to({"layout.sequence_parallel": False}),
                below("layout.tensor", tensor, case.shape.heads),
            ),
        )


def context_ranks_have_two_slices_each(case: Case) -> Iterator[Fault]:
    """Context ranks divide the sequence into twice as many slices, for causal work to be even."""
    context, ranks = case.run.model.context, case.layout.context
    if ranks > 1 and not splits(context, 2 * ranks):
        yield Fault(
            setting="layout.context",
            why=f"model.context={context} does not split into 2 x {ranks} slices, of which each "
            "rank has one from either end",
            source="models/context_slices.py",
            fixes=(
                *around("layout.context", ranks, context),
                *multiples_around("model.context", context, 2 * ranks),
            ),
        )


def exchanged_heads_split(case: Case) -> Iterator[Fault]:
    """An exchange gives each context rank a share of the heads, and of the query groups."""
    layout, groups = case.layout, case.shape.query_groups
    if layout.context_by is not ContextBy.exchange or min(layout.context, layout.tensor) < 1:
        return
    if not splits(groups, layout.tensor) or splits(groups // layout.tensor, layout.context):
        return
    yield Fault(
        setting="layout.context_by",
        why=f"{groups // layout.tensor} query groups of a tensor rank do not split over "
        f"context={layout.context}; keys and values can be gathered or go round instead",
        source="Jacobs et al. 2023 (DeepSpeed-Ulysses)",
        fixes=(
            to({"layout.context_by": ContextBy.gather}),
            to({"layout.context_by": ContextBy.ring}),
            below("layout.context", layout.context, groups),
        ),
    )


def a_way_of_attention_has_ranks(case: Case) -> Iterator[Fault]:
    """`context_by` says how context ranks attend, and needs two of them."""
    if case.layout.context_by is not None and case.layout.context == 1:
        yield Fault(
            setting="layout.context_by",
            why="it says how ranks that share a sequence attend, and context=1 is only one",
            source="a setting without effect is an error",
            fixes=(
                to({"layout.context_by": None}),
                above("layout.context", 1, case.run.model.context),
            ),
        )


def experts_are_dealt_out(case: Case) -> Iterator[Fault]:
    """Expert ranks divide the experts; expert and expert tensor ranks those of a stage."""
    layout, moe = case.layout, case.shape.moe
    expert, shared = layout.expert, layout.expert_tensor
    if min(expert, shared, layout.tensor, layout.context, layout.data) < 1:
        return
    if moe.experts < 1:
        for setting, size in (("layout.expert", expert), ("layout.expert_tensor", shared)):
            if size > 1:
                yield Fault(
                    setting=setting,
                    why=f"model={case.run.model.name} has no experts",
                    source="a setting without effect is an error",
                    fixes=(to({setting: 1}), to({"model.moe.experts": expert})),
                )
        return
    if not splits(moe.experts, expert):
        yield Fault(
            setting="layout.expert",
            why=f"{moe.experts} experts do not split {expert} ways",
            source="Megatron-core transformer/moe/moe_layer.py",
            fixes=around("layout.expert", expert, moe.experts),
        )
    ranks = layout.stage_ranks
    if ranks % (expert * shared):
        both = f"{expert} x layout.expert_tensor={shared}" if shared > 1 else f"{expert}"
        yield Fault(
            setting="layout.expert",
            why=f"{both} does not divide the {ranks} ranks of a stage (tensor {layout.tensor} x "
            f"context {layout.context} x data {layout.data})",
            source="Megatron-core parallel_state.py",
            fixes=(
                *around("layout.expert", expert, moe.experts),
                above("layout.data", layout.data, layout.data * expert * shared),
                to({"layout.expert_tensor": 1}) if shared > 1 else (),
            ),
        )


def expert_tensor_splits_experts(case: Case) -> Iterator[Fault]:
    """Expert tensor ranks divide the inner channels of an expert, tensor ranks the shared one's."""
    shape, layout = case.shape, case.layout
    if shape.moe.experts < 1:
        return
    inner = "model.moe.feed_forward", shape.expert_feed_forward
    shared = "model.moe.shared", shape.moe.shared
    for setting, ranks, (channels, size) in (
        ("layout.expert_tensor", layout.expert_tensor, inner),
        ("layout.tensor", layout.tensor, shared),
    ):
        if size and not splits(size, ranks):
            yield Fault(
                setting=setting,
                why=f"{channels}={size} does not split {ranks} ways",
                source="Megatron-core tensor_parallel/layers.py",
                fixes=(*multiples_around(channels, size, ranks), *around(setting, ranks, size)),
            )


def experts_split_the_sequence(case: Case) -> Iterator[Fault]:
    """With experts tensor ranks route other tokens each, as sequence parallel has it."""
    layout = case.layout
    if case.shape.moe.experts >= 1 and layout.tensor > 1 and not layout.sequence_parallel:
        yield Fault(
            setting="layout.sequence_parallel",
            why=f"with experts each of the tensor={layout.tensor} ranks routes tokens of its own",
            source="Megatron-core transformer/moe/moe_layer.py",
            fixes=(to({"layout.sequence_parallel": True}), to({"layout.tensor": 1})),
        )


def a_way_to_experts_has_ranks(case: Case) -> Iterator[Fault]:
    """`expert_by` says how tokens come to other ranks, and needs two of them."""
    layout = case.layout
    if layout.expert_by is not None and layout.expert == layout.expert_tensor == 1:
        yield Fault(
            setting="layout.expert_by",
            why="it says how tokens come to the ranks of their experts, and expert=1 is only one",
            source="a setting without effect is an error",
            fixes=(
                to({"layout.expert_by": None}),
                above("layout.expert", 1, max(case.shape.moe.experts, 1)),
            ),
        )


RULES: tuple[Rule, ...] = (
    heads_divide_hidden,
    tensor_splits_every_weight,
    layers_fill_every_chunk,
    stage_layers_are_the_model,
    stages_of_several_chunks_are_even,
    interleave_has_stages,
    sequence_parallel_has_tensor_ranks,
    sequence_parallel_splits_context,
    context_ranks_have_two_slices_each,
    exchanged_heads_split,
    a_way_of_attention_has_ranks,
    experts_are_dealt_out,
    expert_tensor_splits_experts,
    experts_split_the_sequence,
    a_way_to_experts_has_ranks,
)
