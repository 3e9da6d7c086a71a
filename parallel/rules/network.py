"""What the network's settings must agree on, whatever the layout."""

from __future__ import annotations

import math
from collections.abc import Iterator

from configs.schema import OptimizerName, Precision
from configs.settings.network import (
    AttentionPattern,
    Biases,
    Positions,
    Residual,
    RopeScaling,
    RouterScore,
)
from parallel.rules.case import Case
from parallel.rules.cut import splits
from parallel.rules.fault import Fault, Rule
from parallel.rules.nearest import around, multiples_around, to

EFFECT = "a setting without effect is an error"


def query_groups_divide_heads(case: Case) -> Iterator[Fault]:
    """Each query group serves equally many heads."""
    groups, heads = case.run.model.query_groups, case.run.model.heads
    if groups is not None and (groups > heads >= 1 or not splits(heads, groups)):
        yield Fault(
            setting="model.query_groups",
            why=f"{heads} heads do not split into {groups} groups",
            source="Ainslie et al. 2023; Megatron-core attention.py",
            fixes=(
                *around("model.query_groups", groups, heads),
                *multiples_around("model.heads", heads, groups),
            ),
        )


def rotary_channels_come_in_pairs(case: Case) -> Iterator[Fault]:
    """At least one pair of a head's channels is rotated, and no channel without another."""
    model, width = case.run.model, case.shape.head_width
    fraction = model.rotary.fraction
    if model.positions is not Positions.rotary or width < 1 or not 0 < fraction <= 1:
        return
    rotated = width * fraction
    if rotated >= 2 and math.isclose(rotated % 2, 0, abs_tol=1e-9):
        return
    nearest = max(2, 2 * round(rotated / 2))
    yield Fault(
        setting="model.rotary.fraction",
        why=f"{rotated:g} of a head's {width} channels are no pairs",
        source="Su et al. 2021",
        fixes=(to({"model.rotary.fraction": nearest / width}),) if nearest <= width else (),
    )


def rope_scaling_is_complete(case: Case) -> Iterator[Fault]:
    """A scaling has its factor and, where it needs one, the context first trained on."""
    model, rotary = case.run.model, case.run.model.rotary
    if rotary.scaling is RopeScaling.none:
        if rotary.factor != 1:
            yield Fault(
                setting="model.rotary.factor",
                why="model.rotary.scaling=none stretches nothing",
                source=EFFECT,
                fixes=(
                    to({"model.rotary.factor": 1.0}),
                    to({"model.rotary.scaling": RopeScaling.linear}),
                ),
            )
        return
    if model.positions is not Positions.rotary:
        yield Fault(
            setting="model.rotary.scaling",
            why=f"model.positions={model.positions} are not rotated",
            source=EFFECT,
            fixes=(
                to({"model.rotary.scaling": RopeScaling.none, "model.rotary.factor": 1.0}),
                to({"model.positions": Positions.rotary}),
            ),
        )
    elif rotary.scaling is not RopeScaling.linear and rotary.original_context is None:
        context = max(1, int(model.context / max(rotary.factor, 1)))
        yield Fault(
            setting="model.rotary.original_context",
            why=f"model.rotary.scaling={rotary.scaling} compares wavelengths with the context "
            "first trained on",
            source="Llama 3.1; Peng et al. 2023",
            fixes=(to({"model.rotary.original_context": context}),),
        )


def frequencies_are_in_order(case: Case) -> Iterator[Fault]:
    """The two bounds between which a scaling blends are in order."""
    rotary = case.run.model.rotary
    pairs = {
        RopeScaling.llama3: ("low_frequency_factor", "high_frequency_factor"),
        RopeScaling.yarn: ("beta_slow", "beta_fast"),
    }
    if rotary.scaling not in pairs:
        return
    lower, upper = pairs[rotary.scaling]
    low, high = getattr(rotary, lower), getattr(rotary, upper)
    if low >= high:
        yield Fault(
            setting=f"model.rotary.{upper}",
            why=f"it is not above model.rotary.{lower}={low:g}",
            source="Llama 3.1; Peng et al. 2023",
            fixes=(to({f"model.rotary.{upper}": 4 * low}),),
        )


def dense_layers_have_a_period(case: Case) -> Iterator[Fault]:
    """A periodic pattern says which layers are dense; no other pattern does."""
    model = case.run.model
    periodic = model.attention is AttentionPattern.periodic
    if periodic == (model.dense_every is not None):
        return
    yield Fault(
        setting="model.dense_every",
        why="model.attention=periodic has one dense layer in every so many"
        if periodic
        else f"model.attention={model.attention} has no period",
        source=EFFECT,
        fixes=(
            to({"model.dense_every": 6 if periodic else None}),
            to(
                {"model.attention": AttentionPattern.dense}
                if periodic
                else {"model.attention": AttentionPattern.periodic}
            ),
        ),
    )


def a_token_goes_to_some_experts(case: Case) -> Iterator[Fault]:
    """A token is sent to as many experts as there are, at most."""
    moe = case.run.model.moe
    if moe.experts >= 1 and moe.top_k > moe.experts:
        yield Fault(
            setting="model.moe.top_k",
            why=f"there are {moe.experts} experts",
            source="models/routing.py",
            fixes=(
                to({"model.moe.top_k": moe.experts}),
                to({"model.moe.experts": moe.top_k}),
            ),
        )


def some_layers_have_experts(case: Case) -> Iterator[Fault]:
    """The first layers may be dense, but not all; nor are there dense ones without others."""
    model, moe = case.run.model, case.run.model.moe
    if moe.experts < 1 and moe.dense_layers > 0:
        yield Fault(
            setting="model.moe.dense_layers",
            why="without experts all layers are dense",
            source=EFFECT,
            fixes=(to({"model.moe.dense_layers": 0}), to({"model.moe.experts": 8})),
        )
    elif moe.experts >= 1 and moe.dense_layers >= model.layers >= 1:
        yield Fault(
            setting="model.moe.dense_layers",
            why=f"model.layers={model.layers} leaves no layer with experts",
            source=EFFECT,
            fixes=(to({"model.moe.dense_layers": model.layers - 1}), to({"model.moe.experts": 0})),
        )


def experts_are_of_plain_layers(case: Case) -> Iterator[Fault]:
    """Layers with experts have no biases, and norms before attention and experts."""
    model = case.run.model
    if model.moe.experts < 1:
        return
    if model.biases is Biases.all:
        yield Fault(
            setting="model.biases",
            why="experts have none",
            source="Megatron-core transformer/moe/shared_experts.py",
            fixes=(to({"model.biases": Biases.none}), to({"model.biases": Biases.qkv})),
        )
    if model.residual is not Residual.pre_norm:
        yield Fault(
            setting="model.residual",
            why="layers with experts normalise what attention and experts read, one after the "
            "other",
            source="models/training/experts.py",
            fixes=(to({"model.residual": Residual.pre_norm}),),
        )


def weights_are_scores_as_they_say(case: Case) -> Iterator[Fault]:
    """A softmax over the chosen experts adds up to 1, so that renormalising does nothing."""
    moe = case.run.model.moe
    if moe.experts >= 1 and moe.score is RouterScore.softmax_chosen and not moe.renormalise:
        yield Fault(
            setting="model.moe.renormalise",
            why="model.moe.score=softmax_chosen adds up to 1 by itself",
            source=EFFECT,
            fixes=(
                to({"model.moe.renormalise": True}),
                to({"model.moe.score": RouterScore.softmax}),
            ),
        )


def experts_train_in_bf16(case: Case) -> Iterator[Fault]:
    """The optimizers of experts and of the rest would each scale fp16's loss by themselves."""
    if case.run.model.moe.experts >= 1 and case.run.precision is Precision.fp16:
        yield Fault(
            setting="precision",
            why="experts have an optimizer of their own, whose loss scale would be another",
            source="Megatron-core optimizer/__init__.py",
            fixes=(to({"precision": Precision.bf16}), to({"precision": Precision.float32})),
        )


def muon_has_no_experts(case: Case) -> Iterator[Fault]:
    """Muon deals matrices out to the ranks that hold copies, which are others for experts."""
    run = case.run
    if run.model.moe.experts >= 1 and run.optimizer.name is OptimizerName.muon:
        yield Fault(
            setting="optimizer.name",
            why="Muon does not update experts, which are on other ranks than the rest",
            source="parallel/engines/muon.py",
            fixes=(to({"optimizer.name": OptimizerName.adam}),),
        )


RULES: tuple[Rule, ...] = (
    query_groups_divide_heads,
    rotary_channels_come_in_pairs,
    rope_scaling_is_complete,
    frequencies_are_in_order,
    dense_layers_have_a_period,
    a_token_goes_to_some_experts,
    some_layers_have_experts,
    experts_are_of_plain_layers,
    weights_are_scores_as_they_say,
    experts_train_in_bf16,
    muon_has_no_experts,
)
